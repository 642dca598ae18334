//! What tools ask of the catalogs, answered as PostgreSQL 15 answers it: `scripts/recorder` stands between each tool and a real
//! PostgreSQL, asks Tidewater the same and compares field by field.
//!
//! Nothing that a tool says or is told is kept in the repository: it is recorded anew each time, from the tool as it is
//! installed. The programs that make the tools ask, and the objects that they ask about, are in `recorded`. The score may rise
//! and not fall; `docs/compatibility.md` says what differs, and `TIDEWATER_COMPLETE=1` writes it.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/server.rs"]
mod server;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use postgres::Postgres;
use server::Server;
use tempfile::TempDir;

/// What was reached. Raise it with the score.
const SCORE_REACHED: f64 = 0.87;

/// What runs a tool's program; the port to ask is its last argument.
#[derive(Clone, Copy)]
enum Runner {
    Java,
    Node,
    Python,
    /// A file of queries, sent by psql.
    Queries,
    Shell,
}

/// Each tool: its recording's name, what is recorded, and the program that makes it ask.
const TOOLS: &[(&str, &str, Runner, &str)] = &[
    ("asyncpg", "asyncpg's introspection of types", Runner::Python, "asyncpg_types.py"),
    ("bi", "queries like those of Metabase, Grafana and Superset", Runner::Queries, "bi.sql"),
    ("datagrip", "queries like those of DataGrip's introspection", Runner::Queries, "datagrip.sql"),
    ("dbeaver", "queries like those of DBeaver's navigator", Runner::Queries, "dbeaver.sql"),
    ("django", "Django's introspection", Runner::Python, "django_introspection.py"),
    ("jdbc", "pgjdbc's DatabaseMetaData", Runner::Java, "Metadata.java"),
    ("node_postgres", "node-postgres", Runner::Node, "node_postgres.js"),
    ("pgcli", "pgcli's completion", Runner::Python, "pgcli_completion.py"),
    ("psql", "psql 15's backslash commands", Runner::Shell, "psql.sh"),
    ("psycopg", "psycopg's TypeInfo", Runner::Python, "psycopg_types.py"),
    ("sqlalchemy", "SQLAlchemy 2's inspector", Runner::Python, "sqlalchemy_reflection.py"),
];

#[test]
fn tools_are_answered_as_postgres_answers_them() {
    let recordings = TempDir::new().expect("a temporary directory");
    std::fs::copy(folder().join("objects.sql"), recordings.path().join("objects.sql")).expect("the objects are copied");
    let postgres = Postgres::start_as("tidewater", "C.UTF-8").expect("PostgreSQL 15 is installed by scripts/setup");
    let recorded: Vec<PathBuf> = TOOLS.iter().map(|tool| record(tool, &postgres, recordings.path())).collect();
    let server = Server::start();
    let mut replay = recorder();
    replay.args(["replay", "--verbose", "2", "--server", &format!("127.0.0.1:{}", server.pg_port)]);
    replay.args(["--at-least", &SCORE_REACHED.to_string()]);
    if std::env::var_os("TIDEWATER_COMPLETE").is_some() {
        replay.arg("--report").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md"));
    }
    let told = succeeds(replay.args(&recorded));
    println!("{told}");
}

/// Runs a tool against PostgreSQL with the recorder between, and gives the recording, which is not empty.
fn record(&(name, about, runner, program): &(&str, &str, Runner, &str), postgres: &Postgres, into: &Path) -> PathBuf {
    let recording = into.join(format!("{name}.rec"));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut command = recorder();
    command.current_dir(into);
    command.args(["record", "--server", &format!("127.0.0.1:{}", postgres.port), "--listen", &port.to_string()]);
    command.args(["--setup", "objects.sql", "--about", about, "--out"]).arg(&recording).arg("--");
    let program = folder().join("programs").join(program);
    let cache = |kind: &str| format!("{}/{kind}", cache());
    match runner {
        Runner::Java => command.args(["java", "-cp", &cache("jdbc/postgresql.jar")]).arg(program),
        Runner::Node => command.env("NODE_PATH", cache("node/node_modules")).arg("node").arg(program),
        Runner::Python => command.arg(cache("venv-clients/bin/python")).arg(program),
        Runner::Queries => {
            command.args(["psql", "-X", "-q", "-h", "127.0.0.1", "-U", "tidewater", "postgres", "-o", "/dev/null"]);
            command.arg("-f").arg(program).arg("-p")
        }
        Runner::Shell => command.arg("sh").arg(program),
    };
    succeeds(command.arg(port.to_string()));
    let text = std::fs::read_to_string(&recording).expect("a recording is written");
    assert!(text.lines().any(|line| line.starts_with('>')), "nothing was asked by {name}");
    recording
}

fn recorder() -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/recorder"));
    command
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

/// Where scripts/setup puts what it installs.
fn cache() -> String {
    let home = std::env::var("HOME").expect("a home directory");
    std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache")) + "/tidewater"
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
