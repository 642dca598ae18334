//! A server under test: the built `tidewater` binary on free ports, with a data directory of its own. `TIDEWATER_BINARY` names
//! another, such as an optimised one for tests that take long.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pub(crate) pg_port: u16,
    pub(crate) http_port: u16,
    /// Removed with the server, unless the directory was given.
    _own_dir: Option<TempDir>,
}

impl Server {
    /// A server on an empty data directory.
    pub(crate) fn start() -> Server {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("data");
        let mut server = Server::start_in(&path, &[]);
        server._own_dir = Some(dir);
        server
    }

    /// A server on this data directory with more options.
    pub(crate) fn start_in(data_dir: &Path, options: &[&str]) -> Server {
        Server::start_with(data_dir, options, &[])
    }

    /// The same, with more environment.
    pub(crate) fn start_with(data_dir: &Path, options: &[&str], environment: &[(&str, &str)]) -> Server {
        let binary = std::env::var_os("TIDEWATER_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidewater").into());
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(options)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tidewater binary runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("standard output is text");
        let port_after = |mark: &str| -> u16 {
            let rest = line.split_once(mark).unwrap_or_else(|| panic!("not ready: {line:?}")).1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a port")
        };
        Server { pg_port: port_after(" -p "), http_port: port_after("http://127.0.0.1:"), child, _own_dir: None }
    }

    /// What a Postgres client needs.
    pub(crate) fn connection_string(&self) -> String {
        format!("host=127.0.0.1 port={} user=test dbname=test", self.pg_port)
    }

    /// A session.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.connection_string()).await
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.stop_with(libc::SIGTERM)
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop_with(mut self, signal: i32) -> ExitStatus {
        // SAFETY: kill has no memory to get wrong, and the child has not been waited for, so its id is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not stop within 30 s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal that does not end it.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: as in `stop_with`.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Ends it with SIGKILL, as a crash would.
    pub(crate) fn kill(self) {
        self.stop_with(libc::SIGKILL);
    }

    /// The bytes of memory the process has in use now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("the process runs");
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
        pages * 4096
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session by connection string; its socket is served in the background.
pub(crate) async fn connect(connection_string: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(connection_string, NoTls).await.expect("the server accepts");
    tokio::spawn(async move {
        // The test sees a broken connection in its own calls.
        let _ = connection.await;
    });
    client
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}
