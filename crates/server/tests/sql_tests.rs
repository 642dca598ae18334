//! Runs `sql-tests/**/*.slt` over the wire, each file on a server of its own.
//!
//! - Every view test is two tests: after each statement every materialized view is compared with its own query run from
//!   scratch. At the end of a file all rows of all tables are deleted, and they are compared once more.
//! - Files in [`PLAIN`] folders hold SQL that PostgreSQL knows too, and run on real PostgreSQL 15 as well, where it is
//!   installed; a materialized view is a plain view there, so that it is never stale. `onlyif tidewater` before a record
//!   keeps it from PostgreSQL.
//! - An error is matched by regex against `SQLSTATE: message`, as in `statement error 42P01: relation "x"`.
//!
//! `cargo test -p server --test sql_tests -- views/ joins/outer` runs the files whose path has one of the words.
//! `TIDEWATER_COMPLETE=1` writes what the server answers into the files; `TIDEWATER_COMPLETE=postgres` writes what
//! PostgreSQL answers.

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/server.rs"]
mod server;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use postgres::Postgres;
use server::Server;
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Record, Runner, default_column_validator, default_normalizer,
    default_validator,
};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Folders whose files run on PostgreSQL too.
const PLAIN: &[&str] = &["select", "joins", "aggregates", "views", "types", "functions", "errors", "postgres", "ddl"];

/// Folders whose data changes by itself, so that two reads may see two moments.
const LIVE: &[&str] = &["sources", "sinks"];

/// Files run at a time.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let folder = server::root().join("sql-tests");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let name = |file: &Path| file.strip_prefix(&folder).unwrap_or(file).display().to_string();
    files.retain(|file| words.is_empty() || words.iter().any(|word| name(file).contains(word.as_str())));

    let postgres = Postgres::start();
    if postgres.is_none() {
        println!("PostgreSQL 15 is not installed: the comparison with it is left out");
    }
    let complete = match std::env::var("TIDEWATER_COMPLETE").as_deref() {
        Err(_) | Ok("" | "0") => Complete::No,
        Ok("postgres") => Complete::FromPostgres,
        Ok(_) => Complete::FromTidewater,
    };
    let mut jobs = VecDeque::new();
    for file in files {
        let plain = in_folder(&folder, &file, PLAIN) && postgres.is_some();
        if plain && complete != Complete::FromTidewater {
            jobs.push_back((file.clone(), On::Postgres));
        }
        if complete != Complete::FromPostgres {
            jobs.push_back((file, On::Tidewater));
        }
    }

    let (jobs, failures, passed) = (Mutex::new(jobs), Mutex::new(Vec::new()), AtomicUsize::new(0));
    println!("\nrunning {} tests", jobs.lock().expect("no thread panics").len());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((file, on)) = { jobs.lock().expect("no thread panics").pop_front() } {
                    let title = match on {
                        On::Tidewater => name(&file),
                        On::Postgres => format!("{} on PostgreSQL", name(&file)),
                    };
                    let started = Instant::now();
                    let live = in_folder(&folder, &file, LIVE);
                    let run = || run_file(&file, on, postgres.as_ref(), live, complete != Complete::No);
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
                        .unwrap_or_else(|_| Err("panicked; see above".to_string()));
                    match outcome {
                        Ok(()) => {
                            println!("test {title} ... ok ({:.1} s)", started.elapsed().as_secs_f32());
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            println!("test {title} ... FAILED");
                            failures.lock().expect("no thread panics").push((title, error));
                        }
                    }
                }
            });
        }
    });

    let failures = failures.into_inner().expect("no thread panics");
    for (title, error) in &failures {
        println!("\n---- {title} ----\n{error}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    let passed = passed.into_inner();
    println!("\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Complete {
    No,
    FromTidewater,
    FromPostgres,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Tidewater,
    Postgres,
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|extension| extension == "slt") => files.push(path),
            false => {}
        }
    }
}

fn in_folder(root: &Path, file: &Path, folders: &[&str]) -> bool {
    let first = file.strip_prefix(root).ok().and_then(|path| path.components().next());
    first.is_some_and(|first| folders.iter().any(|folder| first.as_os_str() == *folder))
}

/// Runs one file to its first failure, told in words.
fn run_file(file: &Path, on: On, postgres: Option<&Postgres>, live: bool, complete: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match (on, postgres) {
        (On::Tidewater, _) => {
            let server = Server::start();
            let target = Target { connection_string: server.connection_string(), on };
            runtime.block_on(run_records(file, &target, live, complete))
        }
        (On::Postgres, Some(postgres)) => runtime.block_on(async {
            static DATABASES: AtomicUsize = AtomicUsize::new(0);
            let database = format!("slt_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
            let admin = server::connect(&postgres.connection_string("postgres")).await;
            let created = admin.batch_execute(&format!("CREATE DATABASE {database}")).await;
            created.map_err(|error| format!("cannot create a database: {error}"))?;
            let target = Target { connection_string: postgres.connection_string(&database), on };
            run_records(file, &target, live, complete).await
        }),
        (On::Postgres, None) => Err("PostgreSQL is not there".to_string()),
    }
}

#[derive(Clone)]
struct Target {
    connection_string: String,
    on: On,
}

async fn run_records(file: &Path, target: &Target, live: bool, complete: bool) -> Result<(), String> {
    let mut runner = Runner::new(|| Connection::open(target));
    runner.add_label(match target.on {
        On::Tidewater => "tidewater",
        On::Postgres => "postgres",
    });
    if complete {
        let updated =
            runner.update_test_file(file, " ", default_validator, default_normalizer, default_column_validator).await;
        return updated.map_err(|error| error.to_string());
    }
    let records = sqllogictest::parse_file(file).map_err(|error| error.to_string())?;
    let twins = match target.on {
        On::Tidewater => Some(Connection::open(target).await.map_err(|error| error.to_string())?),
        On::Postgres => None,
    };
    let result = async {
        for record in records {
            if matches!(record, Record::Halt { .. }) {
                break;
            }
            // A query may change data too, by RETURNING, but then a statement follows that reads it.
            let statement = match &record {
                Record::Statement { sql, loc, .. } => Some((sql.clone(), loc.to_string())),
                _ => None,
            };
            runner.run_async(record).await.map_err(|error| error.display(false).to_string())?;
            if let (Some(twins), Some((sql, location))) = (&twins, statement) {
                let checked = check_twins(twins, live).await;
                checked.map_err(|error| format!("{error}\nafter: {sql}\nat {location}"))?;
            }
        }
        if let Some(twins) = &twins {
            delete_all_rows(twins).await?;
            let checked = check_twins(twins, live).await;
            checked.map_err(|error| format!("{error}\nafter all rows of all tables were deleted"))?;
        }
        Ok(())
    };
    let result = result.await;
    runner.shutdown_async().await;
    result
}

/// Compares every materialized view with its query run from scratch.
async fn check_twins(connection: &Connection, live: bool) -> Result<(), String> {
    let views = connection
        .rows("SELECT schemaname, matviewname, definition FROM pg_matviews ORDER BY 1, 2")
        .await
        .map_err(|error| format!("cannot list the materialized views: {error}"))?;
    for view in views {
        let [Some(schema), Some(name), Some(definition)] = view.as_slice() else {
            return Err(format!("pg_matviews has a NULL: {view:?}"));
        };
        let from_scratch = from_scratch(definition.trim_end().trim_end_matches(';'));
        let maintained = format!("SELECT * FROM \"{schema}\".\"{name}\"");
        let mut attempts = if live { 50 } else { 1 };
        loop {
            let (maintained, scratch) =
                (connection.sorted_rows(&maintained).await, connection.sorted_rows(&from_scratch).await);
            attempts -= 1;
            match (maintained, scratch) {
                (Ok(maintained), Ok(scratch)) if maintained == scratch => break,
                // A view keeps its good rows where its query fails as a whole on a bad one, and those found so far where that does
                // not end: there is nothing to compare.
                (Ok(_), Err(scratch)) if scratch.state.starts_with("22") || scratch.state == "54000" => break,
                (Err(maintained), Err(scratch)) if maintained.state == scratch.state => break,
                _ if attempts > 0 => tokio::time::sleep(Duration::from_millis(50)).await,
                (maintained, scratch) => {
                    return Err(format!(
                        "view {name} differs from its query run from scratch\nmaintained:   {}\nfrom scratch: {}",
                        show(&maintained),
                        show(&scratch)
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A view's definition as a query. A view that gives windows once has those that end by the watermark of its source.
fn from_scratch(definition: &str) -> String {
    match definition.strip_suffix("EMIT ON WINDOW CLOSE") {
        None => definition.to_string(),
        Some(query) => {
            let lower = query.to_lowercase();
            let after = ["tumble(", "hop(", "cumulate("].iter().find_map(|call| Some(lower.split_once(call)?.1));
            let source = after.and_then(|rest| rest.split([',', ' ']).next()).unwrap_or_default();
            format!(
                "SELECT * FROM ({query}) windows WHERE window_end <= \
                 (SELECT min(watermark::timestamp) FROM tw_catalog.tw_sources WHERE object_name = '{source}')"
            )
        }
    }
}

async fn delete_all_rows(connection: &Connection) -> Result<(), String> {
    let tables = connection
        .rows(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        )
        .await
        .map_err(|error| format!("cannot list the tables: {error}"))?;
    for table in tables {
        let [Some(schema), Some(name)] = table.as_slice() else {
            return Err(format!("pg_tables has a NULL: {table:?}"));
        };
        let deleted = connection.rows(&format!("DELETE FROM \"{schema}\".\"{name}\"")).await;
        deleted.map_err(|error| format!("cannot empty {name}: {error}"))?;
    }
    Ok(())
}

type Row = Vec<Option<String>>;

fn show(rows: &Result<Vec<Row>, QueryError>) -> String {
    match rows {
        Err(error) => error.to_string(),
        Ok(rows) => {
            let row = |row: &Row| {
                let values: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
                format!("({})", values.join(", "))
            };
            let shown: Vec<String> = rows.iter().take(50).map(row).collect();
            format!("{} rows {}", rows.len(), shown.join(" "))
        }
    }
}

/// One session of a test, on either server.
struct Connection {
    client: Client,
    on: On,
}

impl Connection {
    async fn open(target: &Target) -> Result<Connection, QueryError> {
        let client = server::connect(&target.connection_string).await;
        Ok(Connection { client, on: target.on })
    }

    async fn query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, QueryError> {
        let answer = tokio::time::timeout(Duration::from_secs(60), self.client.simple_query(sql)).await;
        match answer {
            Ok(answer) => answer.map_err(QueryError::from),
            Err(_) => Err(QueryError { state: "57014".to_string(), message: "no answer within 60 s".to_string() }),
        }
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Row>, QueryError> {
        let messages = self.query(sql).await?;
        Ok(messages.iter().filter_map(row).collect())
    }

    async fn sorted_rows(&self, sql: &str) -> Result<Vec<Row>, QueryError> {
        let mut rows = self.rows(sql).await?;
        rows.sort();
        Ok(rows)
    }
}

fn row(message: &SimpleQueryMessage) -> Option<Row> {
    match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|index| row.get(index).map(str::to_string)).collect()),
        _ => None,
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let sql = match self.on {
            On::Tidewater => sql.to_string(),
            On::Postgres => live_view(sql),
        };
        let messages = self.query(&sql).await?;
        let columns = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::RowDescription(columns) => Some(columns.len()),
            _ => None,
        });
        let Some(columns) = columns else {
            let count = messages.iter().rev().find_map(|message| match message {
                SimpleQueryMessage::CommandComplete(count) => Some(*count),
                _ => None,
            });
            return Ok(DBOutput::StatementComplete(count.unwrap_or(0)));
        };
        let rows = messages.iter().filter_map(row).map(|row| row.into_iter().map(shown).collect()).collect();
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        match self.on {
            On::Tidewater => "tidewater",
            On::Postgres => "postgres",
        }
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &QueryError) -> Option<String> {
        Some(error.state.clone())
    }
}

/// A value as a test file shows it.
fn shown(value: Option<String>) -> String {
    match value {
        None => "NULL".to_string(),
        Some(text) if text.trim().is_empty() => "(empty)".to_string(),
        Some(text) => text.replace('\n', "\\n"),
    }
}

/// The statement for PostgreSQL: its materialized views are not maintained, its views are always current.
fn live_view(sql: &str) -> String {
    let trimmed = sql.trim_start();
    for (ours, theirs) in [("CREATE MATERIALIZED VIEW", "CREATE VIEW"), ("DROP MATERIALIZED VIEW", "DROP VIEW")] {
        if let Some(rest) = trimmed.strip_prefix(ours) {
            return format!("{theirs}{rest}");
        }
    }
    sql.to_string()
}

/// An error as a test file matches it.
#[derive(Debug)]
struct QueryError {
    state: String,
    message: String,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.state, self.message)
    }
}

impl std::error::Error for QueryError {}

impl From<tokio_postgres::Error> for QueryError {
    fn from(error: tokio_postgres::Error) -> QueryError {
        match error.as_db_error() {
            Some(error) => QueryError { state: error.code().code().to_string(), message: error.message().to_string() },
            // No SQLSTATE: the connection itself failed.
            None => QueryError { state: "08006".to_string(), message: error.to_string() },
        }
    }
}
