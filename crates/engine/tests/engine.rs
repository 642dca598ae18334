//! Statements through a real engine in a directory of its own: the four paths, and what survives a restart.

use std::path::Path;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use engine::{Engine, EngineConfig, Response, Session, SessionOptions, TransactionStatus};
use futures::StreamExt;
use repr::{PgError, RelationSchema};

async fn start(directory: &Path) -> Engine {
    let config = EngineConfig { data_dir: directory.to_path_buf(), workers: 2, memory_limit_bytes: None };
    Engine::start(config).await.expect("the engine starts")
}

fn session(engine: &Engine) -> Session {
    let (user, database) = ("ann".to_string(), "tidewater".to_string());
    let options = SessionOptions { user, database, parameters: Vec::new(), secret_bytes: 4 };
    engine.session(options)
}

/// Runs every statement of `text`; the rows of the last one, as PostgreSQL prints them, or its tag.
async fn try_run(session: &mut Session, text: &str) -> Result<Vec<String>, PgError> {
    let mut answer = Vec::new();
    for statement in session.parse(text)? {
        let prepared = session.prepare(&statement, &[]).await?;
        answer = match session.execute(&prepared, Vec::new()).await? {
            Response::Rows { schema, mut rows, .. } | Response::CopyOut { schema, mut rows, .. } => {
                let mut lines = Vec::new();
                while let Some(batch) = rows.next().await {
                    match batch {
                        Ok(batch) => print(&schema, &batch, &mut lines),
                        Err(error) => {
                            session.fail_transaction();
                            return Err(error);
                        }
                    }
                }
                lines
            }
            Response::Command { tag } => vec![tag],
            Response::CopyIn(_) => vec!["COPY IN".to_string()],
            Response::Empty => Vec::new(),
        };
    }
    Ok(answer)
}

async fn run(session: &mut Session, text: &str) -> Vec<String> {
    match try_run(session, text).await {
        Ok(answer) => answer,
        Err(error) => panic!("{text}: {} {error}\n{:?}", error.state.0, error.detail),
    }
}

async fn fails(session: &mut Session, text: &str) -> PgError {
    match try_run(session, text).await {
        Ok(answer) => panic!("{text}: {answer:?}"),
        Err(error) => error,
    }
}

fn print(schema: &RelationSchema, batch: &RecordBatch, lines: &mut Vec<String>) {
    for row in 0..batch.num_rows() {
        let mut line = String::new();
        for (index, column) in schema.columns.iter().enumerate() {
            if index > 0 {
                line.push('|');
            }
            let array = batch.column(index);
            assert_eq!(*array.data_type(), column.sql_type.arrow(), "column {}", column.name);
            if arrow::array::Array::is_null(array, row) {
                line.push('-');
            } else {
                repr::text::format_value(array.as_ref(), row, &column.sql_type, &mut line);
            }
        }
        lines.push(line);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_hold_what_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    assert_eq!(run(&mut s, "SELECT 1 + 1, 'x'").await, ["2|x"]);
    assert_eq!(run(&mut s, "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL)").await, ["CREATE TABLE"]);
    assert_eq!(run(&mut s, "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')").await, ["INSERT 0 3"]);
    assert_eq!(run(&mut s, "SELECT * FROM t ORDER BY id").await, ["1|one", "2|two", "3|three"]);
    assert_eq!(run(&mut s, "SELECT name FROM t WHERE id = 2").await, ["two"]);
    assert_eq!(run(&mut s, "UPDATE t SET name = upper(name) WHERE id >= 2").await, ["UPDATE 2"]);
    assert_eq!(run(&mut s, "DELETE FROM t WHERE id = 1").await, ["DELETE 1"]);
    assert_eq!(run(&mut s, "SELECT * FROM t ORDER BY id").await, ["2|TWO", "3|THREE"]);
    let duplicate = fails(&mut s, "INSERT INTO t VALUES (2, 'again')").await;
    assert_eq!(duplicate.state.0, "23505");
    assert_eq!(duplicate.message, "duplicate key value violates unique constraint \"t_pkey\"");
    assert_eq!(duplicate.detail.as_deref(), Some("Key (id)=(2) already exists."));
    let null = fails(&mut s, "INSERT INTO t VALUES (9, NULL)").await;
    assert_eq!(null.state.0, "23502");
    assert_eq!(null.detail.as_deref(), Some("Failing row contains (9, null)."));
    assert_eq!(run(&mut s, "UPDATE t SET id = 5 - id").await, ["UPDATE 2"]);
    assert_eq!(run(&mut s, "SELECT * FROM t ORDER BY id").await, ["2|THREE", "3|TWO"]);
    assert_eq!(run(&mut s, "INSERT INTO t VALUES (3, 'x') ON CONFLICT DO NOTHING").await, ["INSERT 0 0"]);
    let upsert =
        "INSERT INTO t VALUES (3, 'x'), (4, 'four') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id";
    assert_eq!(run(&mut s, upsert).await.len(), 2);
    assert_eq!(run(&mut s, "SELECT * FROM t ORDER BY id").await, ["2|THREE", "3|x", "4|four"]);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_counted_without_a_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE bag (x int); INSERT INTO bag VALUES (1), (1), (2)").await;
    assert_eq!(run(&mut s, "SELECT x FROM bag ORDER BY x").await, ["1", "1", "2"]);
    assert_eq!(run(&mut s, "UPDATE bag SET x = 3 WHERE x = 1").await, ["UPDATE 2"]);
    assert_eq!(run(&mut s, "DELETE FROM bag WHERE x = 3").await, ["DELETE 2"]);
    assert_eq!(run(&mut s, "SELECT x FROM bag").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_follow_their_tables() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE sales (region text, amount int)").await;
    run(&mut s, "INSERT INTO sales VALUES ('north', 10), ('south', 5)").await;
    run(
        &mut s,
        "CREATE MATERIALIZED VIEW totals AS SELECT region, count(*) AS n, sum(amount) AS total FROM sales GROUP BY region",
    )
    .await;
    let totals = "SELECT * FROM totals ORDER BY region";
    assert_eq!(run(&mut s, totals).await, ["north|1|10", "south|1|5"]);
    let mut other = session(&engine);
    run(&mut other, "INSERT INTO sales VALUES ('south', 7), ('east', 1)").await;
    assert_eq!(run(&mut s, totals).await, ["east|1|1", "north|1|10", "south|2|12"]);
    run(&mut other, "DELETE FROM sales WHERE region = 'north'").await;
    assert_eq!(run(&mut s, totals).await, ["east|1|1", "south|2|12"]);
    assert_eq!(run(&mut s, "SELECT total FROM totals WHERE region = 'south'").await, ["12"]);
    let used = fails(&mut s, "DROP TABLE sales").await;
    assert_eq!(used.state.0, "2BP01");
    assert_eq!(run(&mut s, "DROP TABLE sales CASCADE").await, ["DROP TABLE"]);
    assert_eq!(fails(&mut s, totals).await.state.0, "42P01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    {
        let engine = start(directory.path()).await;
        let mut s = session(&engine);
        run(&mut s, "CREATE TABLE t (id int PRIMARY KEY, g text)").await;
        run(&mut s, "INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'b')").await;
        run(&mut s, "CREATE VIEW v AS SELECT id, g FROM t WHERE id > 1").await;
        run(&mut s, "CREATE MATERIALIZED VIEW m AS SELECT g, count(*) AS n FROM v GROUP BY g").await;
        run(&mut s, "CREATE INDEX by_g ON t (g)").await;
        run(&mut s, "DELETE FROM t WHERE id = 3").await;
    }
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    assert_eq!(run(&mut s, "SELECT * FROM t ORDER BY id").await, ["1|a", "2|a"]);
    assert_eq!(run(&mut s, "SELECT * FROM m").await, ["a|1"]);
    assert_eq!(run(&mut s, "SELECT id FROM t WHERE g = 'a' ORDER BY id").await, ["1", "2"]);
    run(&mut s, "INSERT INTO t VALUES (4, 'c')").await;
    assert_eq!(run(&mut s, "SELECT * FROM m ORDER BY g").await, ["a|1", "c|1"]);
    assert_eq!(run(&mut s, "CREATE TABLE u (x int)").await, ["CREATE TABLE"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_whole_or_absent() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let (mut s, mut other) = (session(&engine), session(&engine));
    run(&mut s, "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10)").await;
    run(&mut s, "BEGIN; INSERT INTO t VALUES (2, 20); UPDATE t SET n = n + 1").await;
    assert_eq!(s.transaction_status(), TransactionStatus::InTransaction);
    assert_eq!(run(&mut s, "SELECT * FROM t ORDER BY id").await, ["1|11", "2|21"]);
    assert_eq!(run(&mut other, "SELECT * FROM t").await, ["1|10"]);
    run(&mut s, "SAVEPOINT a; DELETE FROM t; ROLLBACK TO a; COMMIT").await;
    assert_eq!(run(&mut other, "SELECT * FROM t ORDER BY id").await, ["1|11", "2|21"]);
    run(&mut s, "BEGIN; DELETE FROM t; ROLLBACK").await;
    assert_eq!(run(&mut s, "SELECT count(*) FROM t").await, ["2"]);
    run(&mut s, "BEGIN").await;
    fails(&mut s, "SELECT 1 / 0").await;
    assert_eq!(s.transaction_status(), TransactionStatus::Failed);
    assert_eq!(fails(&mut s, "SELECT 1").await.state.0, "25P02");
    assert_eq!(run(&mut s, "COMMIT").await, ["ROLLBACK"]);
    run(&mut s, "BEGIN; UPDATE t SET n = 0 WHERE id = 1").await;
    run(&mut other, "UPDATE t SET n = 5 WHERE id = 1").await;
    assert_eq!(fails(&mut s, "COMMIT").await.state.0, "40001");
    assert_eq!(run(&mut s, "SELECT n FROM t WHERE id = 1").await, ["5"]);
    run(&mut s, "BEGIN; CREATE TABLE gone (x int); INSERT INTO gone VALUES (1); ROLLBACK").await;
    assert_eq!(fails(&mut s, "SELECT * FROM gone").await.state.0, "42P01");
    run(&mut s, "BEGIN; DROP TABLE t; CREATE TABLE t (y int); ROLLBACK").await;
    assert_eq!(run(&mut s, "SELECT count(*) FROM t").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_tells_the_snapshot_and_then_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let (mut s, mut other) = (session(&engine), session(&engine));
    run(&mut s, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let statement = s.parse("SUBSCRIBE (SELECT id * 2 AS twice FROM t)").expect("it parses").remove(0);
    let prepared = s.prepare(&statement, &[]).await.expect("it binds");
    let Ok(Response::Rows { schema, mut rows, .. }) = s.execute(&prepared, Vec::new()).await else {
        panic!("a SUBSCRIBE has rows");
    };
    let mut lines = Vec::new();
    run(&mut other, "INSERT INTO t VALUES (5)").await;
    while lines.len() < 2 {
        let batch = tokio::time::timeout(Duration::from_secs(10), rows.next()).await.expect("in time");
        print(&schema, &batch.expect("it goes on").expect("rows"), &mut lines);
    }
    let changes: Vec<&str> = lines.iter().filter_map(|line| line.split_once('|')).map(|(_, rest)| rest).collect();
    assert_eq!(changes, ["1|2", "1|10"]);
    // A relation that goes takes its subscriptions with it.
    run(&mut other, "DROP TABLE t").await;
    let last = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match rows.next().await {
                Some(Ok(_)) => {}
                other => return other,
            }
        }
    });
    assert!(matches!(last.await.expect("in time"), Some(Err(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_can_be_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "SET statement_timeout = '50ms'").await;
    let timed_out = fails(&mut s, "SELECT pg_sleep(60)").await;
    assert_eq!((timed_out.state.0, timed_out.message.contains("timeout")), ("57014", true));
    run(&mut s, "SET statement_timeout = 0").await;
    let (process_id, secret_key) = (s.process_id(), s.secret_key().to_vec());
    let canceller = engine.clone();
    let cancel = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        canceller.cancel(process_id, &secret_key[1..]);
        canceller.cancel(process_id, &secret_key);
    });
    assert_eq!(fails(&mut s, "SELECT pg_sleep(60)").await.state.0, "57014");
    cancel.await.expect("it ran");
    assert_eq!(run(&mut s, "SELECT 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_is_the_transactions() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE e (n int, at timestamptz DEFAULT now())").await;
    run(&mut s, "BEGIN; INSERT INTO e (n) VALUES (1); INSERT INTO e VALUES (2, now()) RETURNING at = now(); COMMIT")
        .await;
    assert_eq!(run(&mut s, "SELECT count(DISTINCT at), max(at) < clock_timestamp() FROM e").await, ["1|t"]);
    let refused = fails(&mut s, "CREATE MATERIALIZED VIEW v AS SELECT n, at < now() FROM e").await;
    assert_eq!(refused.state.0, "0A000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_statement_outlives_a_change_of_the_catalog() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    run(&mut s, "PREPARE p (int) AS SELECT id FROM t WHERE id::text = $1::text").await;
    run(&mut s, "CREATE TABLE other (x int)").await;
    assert_eq!(run(&mut s, "EXECUTE p (1)").await, ["1"]);
    run(&mut s, "DROP TABLE t; CREATE TABLE t (id text)").await;
    assert_eq!(fails(&mut s, "EXECUTE p (1)").await.state.0, "0A000");
    run(&mut s, "DROP TABLE t").await;
    assert_eq!(fails(&mut s, "EXECUTE p (1)").await.state.0, "42P01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_statements_of_one_text_are_one_transaction() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE t (id int PRIMARY KEY)").await;
    s.begin_implicit();
    run(&mut s, "INSERT INTO t VALUES (1)").await;
    s.begin_implicit();
    assert_eq!(run(&mut s, "SELECT * FROM t").await, ["1"]);
    fails(&mut s, "INSERT INTO t VALUES (1)").await;
    s.end_implicit(false).await.expect("it ends");
    assert!(run(&mut s, "SELECT * FROM t").await.is_empty());
    s.begin_implicit();
    run(&mut s, "INSERT INTO t VALUES (1)").await;
    s.end_implicit(true).await.expect("it commits");
    assert_eq!(run(&mut s, "SELECT * FROM t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("words.csv");
    std::fs::write(&file, "word,n\nash,1\noak,2\nash,x\nash,4\n").expect("a file");
    let engine = start(&directory.path().join("data")).await;
    let mut s = session(&engine);
    run(
        &mut s,
        &format!("CREATE SOURCE words (word text, n int) FROM FILE (PATH '{}') FORMAT CSV WITH HEADER", file.display()),
    )
    .await;
    assert_eq!(run(&mut s, "SELECT count(*) FROM words").await, ["3"]);
    run(&mut s, "CREATE MATERIALIZED VIEW sums AS SELECT word, sum(n) AS n FROM words GROUP BY word").await;
    let sums = "SELECT * FROM sums ORDER BY word";
    for _ in 0..100 {
        if run(&mut s, sums).await == ["ash|5", "oak|2"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(run(&mut s, sums).await, ["ash|5", "oak|2"]);
    assert_eq!(run(&mut s, "SELECT object_name, state FROM tw_catalog.tw_errors").await, ["words|22P02"]);
    // A view that comes later reads the history again.
    run(&mut s, "CREATE MATERIALIZED VIEW counts AS SELECT word, count(*) AS n FROM words GROUP BY word").await;
    assert_eq!(run(&mut s, "SELECT * FROM counts ORDER BY word").await, ["ash|2", "oak|1"]);
    drop((s, engine));
    let engine = start(&directory.path().join("data")).await;
    let mut s = session(&engine);
    for _ in 0..100 {
        if run(&mut s, sums).await.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(run(&mut s, sums).await, ["ash|5", "oak|2"]);
    assert_eq!(run(&mut s, "SELECT * FROM counts ORDER BY word").await, ["ash|2", "oak|1"]);
    run(&mut s, "DROP SOURCE words CASCADE").await;
    assert!(run(&mut s, "SELECT * FROM tw_errors").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_rows_are_data() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE t (id int PRIMARY KEY, d int); INSERT INTO t VALUES (1, 2), (2, 0)").await;
    run(&mut s, "CREATE MATERIALIZED VIEW q AS SELECT id, 10 / d AS q FROM t").await;
    assert_eq!(run(&mut s, "SELECT * FROM q").await, ["1|5"]);
    let notices = s.take_notices();
    assert!(notices[0].error.message.contains("has 1 row in tw_catalog.tw_errors"), "{notices:?}");
    assert_eq!(run(&mut s, "SELECT object_name, state, message FROM tw_errors").await, ["q|22012|division by zero"]);
    run(&mut s, "UPDATE t SET d = 5 WHERE id = 2").await;
    assert_eq!(run(&mut s, "SELECT * FROM q ORDER BY id").await, ["1|5", "2|2"]);
    assert!(run(&mut s, "SELECT * FROM tw_errors").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_can_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = start(directory.path()).await;
    let mut s = session(&engine);
    run(&mut s, "CREATE TABLE t (id int PRIMARY KEY, name varchar(20))").await;
    assert_eq!(
        run(&mut s, "SELECT relname, relkind FROM pg_class WHERE relname LIKE 't%' AND oid >= 16384 ORDER BY 1").await,
        ["t|r", "t_pkey|i"]
    );
    assert_eq!(
        run(
            &mut s,
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 't'"
        )
        .await,
        ["id|integer|NO", "name|character varying|YES"]
    );
    assert_eq!(run(&mut s, "SELECT current_database(), current_user").await, ["tidewater|ann"]);
    assert_eq!(
        run(
            &mut s,
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum = 2"
        )
        .await,
        ["character varying(20)"]
    );
    assert_eq!(run(&mut s, "SHOW TABLES").await, ["t"]);
    assert_eq!(run(&mut s, "SET application_name = 'x'; SHOW application_name").await, ["x"]);
}
