//! The Postgres wire: accepting connections, and one task for each.
//!
//! ```text
//! accept -> startup.rs -> auth.rs -> connection.rs -+- simple query          query.rs
//!                tls.rs                             +- Parse, Bind, Execute  extended.rs
//!                                                   '- rows, COPY            rows.rs, copy.rs, encode.rs, decode.rs
//! ```

mod auth;
mod connection;
mod copy;
mod decode;
mod encode;
mod extended;
mod keepalive;
mod message;
mod query;
mod rows;
mod socket;
mod startup;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use auth::AuthPolicy;
pub(crate) use tls::Tls;

/// How long connections get to finish what they run once the server stops, before they are cut.
const DRAIN: Duration = Duration::from_secs(10);

/// What connections share.
pub(crate) struct Wire {
    engine: Engine,
    /// True once the server is to stop.
    stop: watch::Receiver<bool>,
    /// Sessions that have been let in.
    session_count: AtomicUsize,
    connections_max: usize,
    auth: AuthPolicy,
    /// None speaks in the clear only.
    tls: Option<Arc<Tls>>,
}

impl Wire {
    pub(crate) fn new(
        engine: Engine,
        stop: watch::Receiver<bool>,
        connections_max: usize,
        auth: AuthPolicy,
        tls: Option<Arc<Tls>>,
    ) -> Arc<Wire> {
        Arc::new(Wire { engine, stop, session_count: AtomicUsize::new(0), connections_max, auth, tls })
    }

    fn admit(self: &Arc<Wire>) -> Option<Admission> {
        let admission = Admission(self.clone());
        let count = self.session_count.fetch_add(1, Ordering::Relaxed);
        // Dropping the admission takes the count back.
        (count < self.connections_max).then_some(admission)
    }
}

/// Waits for the server to be told to stop.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell us any more, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One session's place among `connections_max`, given back when dropped.
struct Admission(Arc<Wire>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.session_count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves connections until told to stop, then lets them finish.
pub(crate) async fn serve(listener: TcpListener, wire: Arc<Wire>) {
    let mut stop = wire.stop.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve_connection(socket, wire.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those who are here may leave some.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("{} connections did not finish in {} s", connections.len(), DRAIN.as_secs());
        connections.shutdown().await;
    }
}

async fn serve_connection(socket: TcpStream, wire: Arc<Wire>) {
    // A batch of rows is one write already; waiting for more would only delay it.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    if let Some(connection) = startup::start(socket, &wire).await {
        connection.run().await;
    }
}
