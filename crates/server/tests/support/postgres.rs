//! Real PostgreSQL 15 to compare with: a cluster in a temporary directory, on a free port, thrown away at the end.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A running cluster. Dropping it kills it.
pub(crate) struct Postgres {
    child: Child,
    pub(crate) port: u16,
    _dir: TempDir,
}

impl Postgres {
    /// Starts one in the C locale whose superuser is `test`; `None` where PostgreSQL 15 is not installed.
    pub(crate) fn start() -> Option<Postgres> {
        Postgres::start_as("test", "C")
    }

    /// The same with a superuser and a locale of choice.
    pub(crate) fn start_as(superuser: &str, locale: &str) -> Option<Postgres> {
        if !Path::new(BIN).join("postgres").exists() {
            return None;
        }
        let dir = TempDir::new().expect("a temporary directory");
        // PostgreSQL refuses to run as root.
        let owner = root_substitute();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).expect("root may give a directory away");
        }
        let command = |program: &str| {
            let mut command = Command::new(Path::new(BIN).join(program));
            command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).env("TZ", "UTC");
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let made = command("initdb")
            .args(["-D", "data", "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale", locale, "--no-sync"])
            .status()
            .expect("initdb runs");
        assert!(made.success(), "initdb failed");
        let port = free_port();
        let child = command("postgres")
            .args(["-D", "data", "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-k", "", "-c", "fsync=off", "-c", "timezone=UTC", "-c", "max_connections=20"])
            // It compiles what it estimates to be dear, and random joins of tables without statistics all are: most of its time.
            .args(["-c", "jit=off"])
            .spawn()
            .expect("postgres runs");
        let postgres = Postgres { child, port, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        let ready = || {
            let mut probe = Command::new(Path::new(BIN).join("pg_isready"));
            probe.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            probe.status().is_ok_and(|status| status.success())
        };
        while !ready() {
            assert!(Instant::now() < deadline, "PostgreSQL did not start within 60 s");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(postgres)
    }

    /// A connection to this database of it.
    pub(crate) fn connection_string(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=test dbname={database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT, its immediate shutdown, takes its children along; SIGKILL would orphan them.
        // SAFETY: kill has no memory to get wrong, and the child has not been waited for, so its id is still its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGQUIT) };
        let _ = self.child.wait();
    }
}

/// User and group `postgres` if we are root.
fn root_substitute() -> Option<(u32, u32)> {
    // SAFETY: geteuid cannot fail and takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user named postgres");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().expect("a number"));
    Some((numbers.next().expect("a user"), numbers.next().expect("a group")))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
