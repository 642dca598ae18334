//! The server's life: listen, start the engine, say that it is ready, serve, and stop in order.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use engine::{Engine, EngineConfig};
use repr::PgError;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::pg::{AuthPolicy, Tls};
use crate::{http, pg};

/// What `tidewater serve` is told.
pub struct Config {
    /// Where everything durable is kept; created if missing.
    pub data_dir: PathBuf,
    /// Where the Postgres wire listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where HTTP listens; port 0 takes a free one.
    pub http: SocketAddr,
    /// Dataflow worker threads.
    pub workers: usize,
    /// What the process should stay within, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Sessions beyond this are refused with 53300.
    pub connections_max: usize,
    /// Who has to show a password, and how.
    pub auth: AuthPolicy,
    /// The files of a certificate with its chain and of its key, in PEM; None speaks in the clear only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A password for the first role, `tidewater`, which it gets if it has none.
    pub password: Option<String>,
}

/// Why the server did not start or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: {error}{}", port_hint(.error, .option))]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The option that chooses another.
        option: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// Storage or the dataflow would not start.
    #[error("{error}{}", error.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default())]
    Engine {
        /// Its own words.
        #[from]
        error: PgError,
    },
    /// The certificate or its key.
    #[error("TLS cannot be offered: {0}")]
    Tls(String),
    /// Signals or standard output.
    #[error("{0}")]
    System(#[from] io::Error),
}

fn port_hint(error: &io::Error, option: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("\nAnother server may be running there; {option} chooses another address."),
        _ => String::new(),
    }
}

/// Serves until SIGTERM or SIGINT, then lets statements finish and closes storage. A second signal ends it at once.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    // Ports first: that one is taken is known before storage is touched.
    let pg_listener = listen(config.listen, "--listen").await?;
    let http_listener = listen(config.http, "--http").await?;
    let (pg_address, http_address) = (pg_listener.local_addr()?, http_listener.local_addr()?);
    let tls = config.tls.map(|(certificate, key)| Tls::load(certificate, key).map(Arc::new));
    let tls = tls.transpose().map_err(ServeError::Tls)?;
    if !pg_address.ip().is_loopback() && tls.is_none() {
        tracing::warn!("{pg_address} is open to other machines without TLS: what is sent can be read on the way");
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);

    let shown = http::Shown::default();
    let http = tokio::spawn(http::serve(http_listener, shown.clone(), stopped.clone()));
    let starting = Engine::start(EngineConfig {
        data_dir: config.data_dir,
        workers: config.workers,
        memory_limit_bytes: config.memory_limit_bytes,
    });
    // Nothing was promised to anybody yet: being told to stop now needs no order.
    let engine = tokio::select! {
        engine = starting => engine?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    // Set once, here.
    let _ = shown.set(engine.clone());
    engine.set_connections_max(config.connections_max);
    if let Some(password) = &config.password {
        engine.set_first_password(password).await?;
    }
    if !pg_address.ip().is_loopback() && !engine.has_passwords() {
        tracing::warn!(
            "no role has a password yet, so nobody gets in from another machine; TIDEWATER_PASSWORD gives the first one"
        );
    }
    if let Some(tls) = &tls {
        tokio::spawn(Arc::clone(tls).follow(stopped.clone()));
    }
    let wire = pg::Wire::new(engine.clone(), stopped, config.connections_max, config.auth, tls);
    let connections = tokio::spawn(pg::serve(pg_listener, wire));

    say_ready(pg_address, http_address)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    let drained = async {
        for ended in [connections.await.map_err(io::Error::other), http.await.map_err(io::Error::other).map(|_| ())] {
            if let Err(error) = ended {
                tracing::warn!("while stopping: {error}");
            }
        }
        engine.shutdown().await;
    };
    tokio::select! {
        () = drained => {}
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, option, error })
}

/// The one line on standard output; tests and scripts wait for it.
fn say_ready(pg: SocketAddr, http: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "tidewater: ready, psql -h {} -p {} (metrics: http://{http}/metrics)", pg.ip(), pg.port())?;
    out.flush()
}
