//! Real clients, each with its own library: psql, pgbench, psycopg 3 and 2, asyncpg, SQLAlchemy, Django, pgvector's, psqlodbc,
//! node-postgres, postgres.js, Knex, Drizzle, TypeORM, pgx, pgjdbc. tokio-postgres drives the other tests.
//!
//! Each client program makes a table and a view, writes and reads with parameters of several types, checks an error's SQLSTATE,
//! and prints `ok`. scripts/setup installs the libraries and scripts/test says where they are; a missing one fails the test.

#[path = "support/server.rs"]
mod server;

use std::process::Command;

use server::Server;

#[test]
fn psycopg() {
    python("psycopg_client.py", &[]);
}

#[test]
fn psycopg2() {
    python("psycopg2_client.py", &[]);
}

#[test]
fn sqlalchemy() {
    for driver in ["psycopg", "psycopg2"] {
        python("sqlalchemy_client.py", &[driver]);
    }
}

#[test]
fn django() {
    python("django_client.py", &[]);
}

/// PostgreSQL's own benchmark: its tables made by it, read and written by several clients at a time.
#[test]
fn pgbench() {
    let server = Server::start();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(postgres_program("pgbench"));
        command.args(["-h", "127.0.0.1", "-p", &server.pg_port.to_string(), "-U", "test"]);
        command.args(arguments).arg("test");
        succeeds(command)
    };
    run(&["-i", "-s", "1", "--foreign-keys", "-q"]);
    for mode in ["simple", "extended", "prepared"] {
        for script in ["select-only", "simple-update"] {
            let told = run(&["-n", "-b", script, "-M", mode, "-c", "4", "-t", "50"]);
            assert!(told.contains("number of transactions actually processed: 200/200"), "{script}, {mode}: {told}");
        }
    }
}

/// A program of PostgreSQL's that Debian keeps out of the path.
fn postgres_program(name: &str) -> String {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = found.map(|version| version.path().join("bin").join(name));
    let mut there: Vec<_> = programs.filter(|program| program.exists()).collect();
    there.sort();
    there.pop().map_or(name.to_string(), |program| program.display().to_string())
}

#[test]
fn asyncpg() {
    python("asyncpg_client.py", &[]);
}

#[test]
fn pgvector() {
    python("pgvector_client.py", &[]);
}

#[test]
fn psqlodbc() {
    python("odbc_client.py", &[]);
}

#[test]
fn node_postgres() {
    node("node_client.js");
}

#[test]
fn postgres_js() {
    node("postgres_js_client.js");
}

#[test]
fn knex() {
    node("knex_client.js");
}

#[test]
fn drizzle() {
    node("drizzle_client.js");
}

#[test]
fn typeorm() {
    node("typeorm_client.js");
}

#[test]
fn pgjdbc() {
    let server = Server::start();
    let mut command = Command::new("java");
    command.args(["-cp", &format!("{}/jdbc/postgresql.jar", cache())]);
    command.arg(program("JdbcClient.java")).arg(server.pg_port.to_string());
    succeeds(command);
}

#[test]
fn pgx() {
    let server = Server::start();
    let mut command = Command::new("go");
    command.args(["run", ".", &server.pg_port.to_string()]).current_dir(program("pgx"));
    succeeds(command);
}

#[test]
fn psql() {
    let server = Server::start();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-p", &server.pg_port.to_string(), "-U", "test", "test"]);
        command.args(arguments);
        succeeds(command)
    };
    run(&["-c", "CREATE TABLE t (id int PRIMARY KEY, name text)"]);
    run(&["-c", "CREATE MATERIALIZED VIEW v AS SELECT name, count(*) AS n FROM t GROUP BY name"]);
    run(&["-c", "INSERT INTO t VALUES (1, 'ash'), (2, 'ash')"]);
    assert_eq!(run(&["-c", "SELECT * FROM v"]), "ash|2\n");
    assert!(run(&["-c", "\\dt"]).contains("t|table"), "\\dt lists the table");
    assert!(run(&["-c", "\\dm"]).contains("v|materialized view"), "\\dm lists the view");
    assert!(run(&["-c", "\\d t"]).contains("id|integer"), "\\d names the columns");
    run(&["-c", "CREATE TABLE c (id serial PRIMARY KEY, t int REFERENCES t CHECK (t > 0), n text UNIQUE)"]);
    let described = run(&["-P", "tuples_only=off", "-c", "\\d c"]);
    for part in ["nextval('c_id_seq'::regclass)", "\"c_n_key\" UNIQUE", "\"c_t_check\" CHECK"] {
        assert!(described.contains(part), "\\d shows {part}: {described}");
    }
}

fn node(name: &str) {
    let server = Server::start();
    let modules = std::env::var("TIDEWATER_CLIENTS_NODE").unwrap_or_else(|_| format!("{}/node", cache()));
    let mut command = Command::new("node");
    command.arg(program(name)).arg(server.pg_port.to_string()).env("NODE_PATH", format!("{modules}/node_modules"));
    succeeds(command);
}

fn python(name: &str, arguments: &[&str]) {
    let server = Server::start();
    let python =
        std::env::var("TIDEWATER_CLIENTS_PYTHON").unwrap_or_else(|_| format!("{}/venv-clients/bin/python", cache()));
    let mut command = Command::new(python);
    command.arg(program(name)).arg(server.pg_port.to_string()).args(arguments);
    succeeds(command);
}

fn program(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Where scripts/setup puts what it installs.
fn cache() -> String {
    let home = std::env::var("HOME").expect("a home directory");
    std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache")) + "/tidewater"
}

fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup installs it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
