//! What survives: the server is killed again and again while clients write, and afterwards the tables are what was acknowledged
//! and the views are what their queries say.
//!
//! Each writer keeps a model of its own rows. What was acknowledged must be there; the one statement that was on its way when
//! the server died must be there whole or not at all. `TIDEWATER_LONG=1` kills a hundred times; `TIDEWATER_RECOVERY_SEED`
//! chooses another run.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ask::{eventually, rows, run, scalar};
use random::Random;
use server::Server;
use tempfile::TempDir;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const WRITERS: u64 = 3;

/// The views that are there from the start, with their queries.
const VIEWS: [(&str, &str); 4] = [
    (
        "balances",
        "SELECT owner, count(*) AS n, sum(amount) AS total, min(amount), max(id) FROM accounts GROUP BY owner",
    ),
    ("noted", "SELECT a.owner, n.note, count(*) AS n FROM accounts a JOIN notes n ON n.writer = a.owner GROUP BY 1, 2"),
    ("bare", "SELECT id FROM accounts a WHERE NOT EXISTS (SELECT 1 FROM notes WHERE note = a.id) AND amount % 2 = 0"),
    ("over_view", "SELECT sum(total) AS total, count(DISTINCT n) FROM balances"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let seed = std::env::var("TIDEWATER_RECOVERY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let kills = if std::env::var_os("TIDEWATER_LONG").is_some() { 100 } else { 10 };
    eprintln!("{kills} kills, TIDEWATER_RECOVERY_SEED={seed}");
    let dir = TempDir::new().expect("a temporary directory");
    let mut random = Random(seed);
    let mut server = Server::start_in(dir.path(), &[]);
    make_schema(&server.connect().await).await;
    let mut states = vec![State::default(); WRITERS as usize];
    let mut names = BTreeSet::new();
    let mut acknowledged = 0;
    for kill in 0..kills {
        let mut writers = Vec::new();
        for (number, state) in states.drain(..).enumerate() {
            let (client, random) = (server.connect().await, Random(random.next()));
            writers.push(tokio::spawn(write(client, number as u64, random, state)));
        }
        let definer = tokio::spawn(define(server.connect().await, Random(random.next()), names));
        tokio::time::sleep(Duration::from_millis(random.below(600))).await;
        server.kill();
        let mut ends = Vec::new();
        for writer in writers {
            ends.push(writer.await.expect("a writer ends with its connection"));
        }
        let defined = definer.await.expect("the definer ends with its connection");
        // Sometimes it dies once more before it is ready.
        if random.below(3) == 0 {
            die_while_starting(dir.path(), Duration::from_millis(random.below(400)));
        }
        server = Server::start_in(dir.path(), &[]);
        let client = server.connect().await;
        for (number, end) in ends.into_iter().enumerate() {
            acknowledged += end.acknowledged;
            let found = State::read(&client, number as u64).await;
            states.push(end.resolve(found, &format!("writer {number} after kill {kill}, seed {seed}")));
        }
        acknowledged += defined.acknowledged;
        let found = names_defined(&client).await;
        names = defined.resolve(found, &format!("definitions after kill {kill}, seed {seed}"));
        check_views(&client, &states, &names).await;
    }
    eprintln!("{acknowledged} statements were acknowledged");
    assert!(acknowledged > kills * 5, "only {acknowledged} statements in {kills} lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_amid_writes_loses_nothing() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut server = Server::start_in(dir.path(), &[]);
    make_schema(&server.connect().await).await;
    let mut state = State::default();
    // SIGTERM is what a service manager sends, SIGINT is Ctrl-C.
    for (round, signal) in [libc::SIGTERM, libc::SIGINT, libc::SIGTERM, libc::SIGINT].into_iter().enumerate() {
        let writer = tokio::spawn(write(server.connect().await, 0, Random(round as u64), state));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = Instant::now();
        let status = tokio::task::spawn_blocking(move || server.stop_with(signal)).await.expect("it stops");
        assert_eq!(status.code(), Some(0), "after signal {signal}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} after signal {signal}", started.elapsed());
        let end = writer.await.expect("the writer ends with its connection");
        assert!(end.acknowledged > 0);
        server = Server::start_in(dir.path(), &[]);
        let client = server.connect().await;
        state = end.resolve(State::read(&client, 0).await, &format!("after signal {signal}"));
        check_views(&client, &[state.clone()], &BTreeSet::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_wait_for_the_disk_what_is_left_is_a_prefix() {
    let dir = TempDir::new().expect("a temporary directory");
    let data = dir.path().join("data");
    let server = Server::start_in(&data, &[]);
    let client = server.connect().await;
    run(&client, "CREATE TABLE a (n int PRIMARY KEY); CREATE TABLE b (n int)").await;
    run(&client, "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, max(a.n) AS last FROM a JOIN b ON b.n = a.n")
        .await;
    let before = log_files(&data);
    run(&client, "SET synchronous_commit = off").await;
    for number in 1..=400 {
        run(&client, &format!("BEGIN; INSERT INTO a VALUES ({number}); INSERT INTO b VALUES ({number}); COMMIT")).await;
    }
    server.kill();
    // A machine that dies loses what was not on the disk yet: any tail of the log.
    let after = log_files(&data);
    let (log, written) = after.last_key_value().expect("a log");
    let synced = before.get(log).copied().unwrap_or(0);
    assert!(*written > synced + 10_000, "the writes are in {log:?}, {synced} bytes of it before, {written} after");
    let mut random = Random(7);
    let mut lengths = BTreeSet::new();
    let cut = dir.path().join("cut");
    copy_files(&data, &cut);
    // A killed process loses nothing: the system has what it wrote.
    assert_eq!(prefix(&data).await, 400);
    for round in 0..8 {
        let copy = dir.path().join(format!("copy{round}"));
        copy_files(&cut, &copy);
        let length = synced + random.below(written - synced);
        let file = fs::OpenOptions::new().write(true).open(copy.join(log)).expect("the log");
        file.set_len(length).expect("it is cut");
        lengths.insert(prefix(&copy).await);
    }
    assert!(lengths.len() > 2, "every cut left as much: {lengths:?}");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut first = Server::start_in(dir.path(), &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_tidewater"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .expect("the tidewater binary runs");
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(second.stdout, b"", "it never says that it is ready");
    let error = String::from_utf8_lossy(&second.stderr);
    let path = dir.path().to_string_lossy();
    assert!(error.contains(&*path) && error.contains("in use by another server"), "{error}");
    assert!(first.is_alive());
    // Once the first is gone, however it went, the directory is free.
    first.kill();
    assert_eq!(Server::start_in(dir.path(), &[]).terminate().code(), Some(0));
}

#[test]
fn data_that_is_no_data_is_refused() {
    let dir = TempDir::new().expect("a temporary directory");
    assert_eq!(Server::start_in(dir.path(), &[]).terminate().code(), Some(0));
    fs::write(dir.path().join("CURRENT"), "nonsense\n").expect("a file");
    let refused = Command::new(env!("CARGO_BIN_EXE_tidewater"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .expect("the tidewater binary runs");
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains(&*dir.path().to_string_lossy()) && !error.contains("panicked"), "{error}");
}

/// What one writer has in the tables.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Account to amount.
    accounts: BTreeMap<u64, i64>,
    /// Note to the number of its copies.
    notes: BTreeMap<u64, u64>,
}

/// How a life ended: what was acknowledged, and what it would be with the statement that was on its way.
struct End<X> {
    certain: X,
    possible: X,
    acknowledged: u64,
}

impl<X: PartialEq + Debug> End<X> {
    /// Which of the two it was. Panics if it was neither.
    fn resolve(self, found: X, what: &str) -> X {
        assert!(
            found == self.certain || found == self.possible,
            "{what}\nfound: {found:?}\nacknowledged: {:?}\nor with the last statement: {:?}",
            self.certain,
            self.possible
        );
        found
    }
}

impl State {
    async fn read(client: &Client, writer: u64) -> State {
        let mut state = State::default();
        for row in rows(client, &format!("SELECT id, amount FROM accounts WHERE owner = {writer}")).await {
            let (id, amount) = row.split_once('|').expect("two columns");
            state.accounts.insert(id.parse().expect("an id"), amount.parse().expect("an amount"));
        }
        for row in
            rows(client, &format!("SELECT note, count(*) FROM notes WHERE writer = {writer} GROUP BY note")).await
        {
            let (note, copies) = row.split_once('|').expect("two columns");
            state.notes.insert(note.parse().expect("a note"), copies.parse().expect("a count"));
        }
        state
    }

    /// A change of this writer, and its SQL.
    fn step(&mut self, writer: u64, random: &mut Random) -> String {
        let ids: Vec<u64> = self.accounts.keys().copied().collect();
        let fresh = |random: &mut Random| writer + WRITERS * random.below(1 << 40);
        match random.below(8) {
            0 | 1 => {
                let count = random.below(4) + 1;
                let added: BTreeMap<u64, i64> =
                    (0..count).map(|_| (fresh(random), random.below(1000) as i64)).collect();
                let values: Vec<String> =
                    added.iter().map(|(id, amount)| format!("({id}, {writer}, {amount})")).collect();
                self.accounts.extend(added);
                format!("INSERT INTO accounts VALUES {}", values.join(", "))
            }
            2 => {
                let (modulus, by) = (random.below(4) + 1, random.below(100) as i64 - 50);
                let changed = self.accounts.iter_mut().filter(|(id, _)| **id % modulus == 0);
                changed.for_each(|(_, amount)| *amount += by);
                format!("UPDATE accounts SET amount = amount + {by} WHERE owner = {writer} AND id % {modulus} = 0")
            }
            3 => {
                let bound = random.below(1000) as i64;
                self.accounts.retain(|_, amount| *amount >= bound || *amount < bound - 100);
                format!("DELETE FROM accounts WHERE owner = {writer} AND amount < {bound} AND amount >= {bound} - 100")
            }
            // From one account to another, with a note: all of it or nothing.
            4 | 5 if ids.len() >= 2 => {
                let (from, to) = (ids[0], ids[random.below(ids.len() as u64 - 1) as usize + 1]);
                *self.accounts.entry(from).or_default() -= 7;
                *self.accounts.entry(to).or_default() += 7;
                let note = ids[random.below(ids.len() as u64) as usize];
                *self.notes.entry(note).or_default() += 2;
                format!(
                    "BEGIN; UPDATE accounts SET amount = amount - 7 WHERE id = {from}; \
                     UPDATE accounts SET amount = amount + 7 WHERE id = {to}; \
                     INSERT INTO notes VALUES ({writer}, {note}), ({writer}, {note}); COMMIT"
                )
            }
            6 => match self.notes.pop_first() {
                Some((note, _)) => format!("DELETE FROM notes WHERE writer = {writer} AND note = {note}"),
                None => format!("DELETE FROM notes WHERE writer = {writer}"),
            },
            _ => format!("BEGIN; DELETE FROM accounts WHERE owner = {writer}; DELETE FROM notes; ROLLBACK"),
        }
    }
}

/// Changes one writer's rows until the connection is lost.
async fn write(client: Client, writer: u64, mut random: Random, mut certain: State) -> End<State> {
    let mut acknowledged = 0;
    loop {
        let mut possible = certain.clone();
        let sql = possible.step(writer, &mut random);
        match client.batch_execute(&sql).await {
            Ok(()) => {
                certain = possible;
                acknowledged += 1;
            }
            // Another writer came first: nothing has happened, and if the block is still open it ends here.
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
                if client.batch_execute("ROLLBACK").await.is_err() {
                    return End { possible: certain.clone(), certain, acknowledged };
                }
            }
            Err(error) => {
                assert!(is_the_end(&error), "{sql}: {error:?}");
                return End { certain, possible, acknowledged };
            }
        }
    }
}

/// Makes and drops tables and views until the connection is lost.
async fn define(client: Client, mut random: Random, mut certain: BTreeSet<String>) -> End<BTreeSet<String>> {
    let mut acknowledged = 0;
    loop {
        let mut possible = certain.clone();
        let sql = match random.below(3) {
            0 if !certain.is_empty() => {
                let name = certain.iter().nth(random.below(certain.len() as u64) as usize).cloned().expect("a name");
                possible.remove(&name);
                let kind = if name.starts_with("d_view") { "MATERIALIZED VIEW" } else { "TABLE" };
                format!("DROP {kind} {name}")
            }
            1 => {
                let name = format!("d_table{}", random.below(1 << 40));
                let sql = format!("CREATE TABLE {name} (a int PRIMARY KEY, b text NOT NULL)");
                possible.insert(name);
                sql
            }
            _ => {
                let name = format!("d_view{}", random.below(1 << 40));
                let sql = format!("CREATE MATERIALIZED VIEW {name} AS {DEFINED}");
                possible.insert(name);
                sql
            }
        };
        match client.batch_execute(&sql).await {
            Ok(()) => {
                certain = possible;
                acknowledged += 1;
            }
            Err(error) => {
                assert!(is_the_end(&error), "{sql}: {error:?}");
                return End { certain, possible, acknowledged };
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(30))).await;
    }
}

/// The query of every view that [`define`] makes.
const DEFINED: &str =
    "SELECT amount % 10 AS digit, count(*) AS n, avg(amount) AS average FROM accounts GROUP BY amount % 10";

async fn names_defined(client: &Client) -> BTreeSet<String> {
    rows(client, "SELECT name FROM tw_catalog.tw_objects WHERE kind <> 'index' AND name LIKE 'd\\_%'")
        .await
        .into_iter()
        .collect()
}

/// Whether the connection ended because the server did.
fn is_the_end(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(told) => matches!(told.code().code(), "57P01" | "57014"),
        None => true,
    }
}

async fn make_schema(client: &Client) {
    run(client, "CREATE TABLE accounts (id bigint PRIMARY KEY, owner int NOT NULL, amount bigint NOT NULL)").await;
    run(client, "CREATE TABLE notes (writer int, note bigint)").await;
    for (view, query) in VIEWS {
        run(client, &format!("CREATE MATERIALIZED VIEW {view} AS {query}")).await;
    }
    run(client, "CREATE INDEX by_owner ON accounts (owner)").await;
}

/// Every view is its query over the tables, and the grouped one is the models' sums.
async fn check_views(client: &Client, states: &[State], names: &BTreeSet<String>) {
    for (view, query) in VIEWS {
        let (found, expected) = (rows(client, &format!("SELECT * FROM {view}")).await, rows(client, query).await);
        assert_eq!(found, expected, "view {view}");
    }
    for view in names.iter().filter(|name| name.starts_with("d_view")) {
        assert_eq!(rows(client, &format!("SELECT * FROM {view}")).await, rows(client, DEFINED).await, "view {view}");
    }
    let expected: Vec<String> = states
        .iter()
        .enumerate()
        .filter(|(_, state)| !state.accounts.is_empty())
        .map(|(writer, state)| format!("{writer}|{}|{}", state.accounts.len(), state.accounts.values().sum::<i64>()))
        .collect();
    assert_eq!(rows(client, "SELECT owner, n, total FROM balances").await, expected);
    for (writer, state) in states.iter().enumerate() {
        let found = scalar(client, &format!("SELECT count(*) FROM accounts WHERE owner = {writer}")).await;
        assert_eq!(found, state.accounts.len().to_string(), "by the index");
    }
}

/// Starts a server and kills it, ready or not.
fn die_while_starting(data_dir: &Path, after: Duration) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidewater"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("the tidewater binary runs");
    std::thread::sleep(after);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// Starts a server on what `without_the_wait..` wrote: how many writes are there. They must be the first ones, each whole.
async fn prefix(data: &Path) -> u64 {
    let server = Server::start_in(data, &[]);
    let client = server.connect().await;
    eventually("the view has caught up", async || {
        rows(&client, "SELECT n FROM v").await == rows(&client, "SELECT count(*) FROM a").await
    })
    .await;
    let count: u64 = scalar(&client, "SELECT count(*) FROM a").await.parse().expect("a count");
    let expected = if count == 0 { "0|NULL".to_string() } else { format!("{count}|{count}") };
    assert_eq!(rows(&client, "SELECT count(*), max(n) FROM a").await, std::slice::from_ref(&expected));
    assert_eq!(rows(&client, "SELECT count(*), max(n) FROM b").await, std::slice::from_ref(&expected));
    assert_eq!(rows(&client, "SELECT * FROM v").await, [expected]);
    count
}

/// RocksDB's write-ahead logs and how long they are.
fn log_files(data: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(data).expect("the data directory").flatten() {
        let path = PathBuf::from(entry.file_name());
        if path.extension().is_some_and(|extension| extension == "log") {
            files.insert(path, entry.metadata().expect("a file").len());
        }
    }
    files
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the data directory").flatten() {
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}
