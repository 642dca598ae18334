//! Statements and what they parse to, or the error PostgreSQL gives.

use std::time::{Duration, Instant};

use super::*;

fn one(text: &str) -> Ast {
    let mut statements = parse(text).unwrap_or_else(|error| panic!("{text}: {error} {:?}", error.position));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).ast
}

/// `Variant` of the debug form.
fn kind(text: &str) -> String {
    let shown = format!("{:?}", one(text));
    shown.split(['(', ' ', '{']).next().unwrap_or_default().to_string()
}

fn error(text: &str) -> (String, Option<u32>) {
    let error = parse(text).expect_err(text);
    assert_eq!(error.state, SqlState::SYNTAX_ERROR, "{text}: {error}");
    (error.message, error.position)
}

#[test]
fn every_statement_of_the_reference_parses() {
    let statements = [
        ("SELECT 1", "Query"),
        ("(SELECT 1) UNION ALL VALUES (2) ORDER BY 1", "Query"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "Query"),
        ("TABLE t", "Query"),
        ("VALUES (1, 'x'), (2, NULL)", "Query"),
        (
            "INSERT INTO t (a, b) VALUES (1, DEFAULT), (2, 'x') ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *",
            "Insert",
        ),
        ("INSERT INTO t DEFAULT VALUES", "Insert"),
        ("INSERT INTO t SELECT * FROM u", "Insert"),
        ("UPDATE t AS x SET a = 1, (b, c) = (2, DEFAULT) FROM u WHERE x.a = u.a RETURNING a", "Update"),
        ("DELETE FROM t USING u WHERE t.a = u.a RETURNING *", "Delete"),
        ("CREATE TABLE t (a int PRIMARY KEY, b text NOT NULL DEFAULT 'x', PRIMARY KEY (a))", "CreateTable"),
        ("CREATE TABLE IF NOT EXISTS t (a varchar(3), b numeric(10, 2), c timestamptz, d int[])", "CreateTable"),
        ("CREATE SOURCE s (a int) FROM FILE (PATH 'x', FOLLOW) FORMAT CSV WITH HEADER", "CreateSource"),
        (
            "CREATE SOURCE s (a int) FROM FILE (PATH = 'x') FORMAT CSV WITH (HEADER, DELIMITER ',', NULL 'NA', QUOTE '\"', ESCAPE '\"')",
            "CreateSource",
        ),
        ("CREATE SOURCE s FROM KAFKA CONNECTION k (TOPIC 't', START OFFSET (0, 5)) FORMAT TEXT", "CreateSource"),
        (
            "CREATE SOURCE s (a int) WITH (connector = 'kafka', topic = 't', properties.bootstrap.server = 'b:9', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON",
            "CreateSource",
        ),
        (
            "CREATE SOURCE s FROM LOAD GENERATOR NEXMARK (TABLE bid, TICK INTERVAL '1 ms', EVENTS 10, SEED 3)",
            "CreateSource",
        ),
        ("CREATE SOURCE s FROM LOAD GENERATOR COUNTER", "CreateSource"),
        ("CREATE CONNECTION k TO KAFKA (BROKER 'localhost:9092')", "CreateConnection"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v (a, b) AS SELECT 1, 2", "CreateView"),
        ("CREATE OR REPLACE VIEW v AS (SELECT 1)", "CreateView"),
        ("CREATE INDEX ON t (a, b)", "CreateIndex"),
        ("CREATE INDEX IF NOT EXISTS i ON t USING btree (a DESC)", "CreateIndex"),
        ("CREATE DEFAULT INDEX ON t", "Unsupported"),
        ("DROP SOURCE IF EXISTS a, public.b CASCADE", "Drop"),
        ("DROP MATERIALIZED VIEW v RESTRICT", "Drop"),
        ("DROP CONNECTION k", "Drop"),
        ("DROP FUNCTION f(int)", "Unsupported"),
        ("SHOW TABLES", "Show"),
        ("SHOW MATERIALIZED VIEWS", "Show"),
        ("SHOW COLUMNS FROM t", "Show"),
        ("SHOW CREATE MATERIALIZED VIEW v", "Show"),
        ("SHOW ALL", "Show"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "Show"),
        ("SET search_path TO \"$user\", public", "Set"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "Set"),
        ("SET LOCAL x.y = 1", "Set"),
        ("SET TIME ZONE 'UTC'", "Set"),
        ("SET NAMES 'utf8'", "Set"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE", "SetTransaction"),
        ("RESET ALL", "Reset"),
        ("EXPLAIN PLAN FOR SELECT 1", "Explain"),
        ("EXPLAIN (VERBOSE, COSTS off) SELECT 1", "Explain"),
        ("EXPLAIN (SELECT 1) UNION (SELECT 2)", "Explain"),
        ("EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT 1", "Explain"),
        ("EXPLAIN MATERIALIZED VIEW v", "Explain"),
        ("SUBSCRIBE v", "Subscribe"),
        ("SUBSCRIBE TO (SELECT * FROM t) WITH (SNAPSHOT = false, PROGRESS)", "Subscribe"),
        ("COPY (SUBSCRIBE TO v WITH (SNAPSHOT)) TO STDOUT", "CopyOut"),
        ("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER)", "CopyOut"),
        ("COPY t (a) TO STDOUT CSV HEADER DELIMITER AS ';'", "CopyOut"),
        ("COPY public.t (a, b) FROM STDIN WITH (FORMAT binary)", "CopyIn"),
        ("BEGIN", "Begin"),
        ("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY DEFERRABLE", "Begin"),
        ("START TRANSACTION READ WRITE", "Begin"),
        ("COMMIT WORK", "Commit"),
        ("END", "Commit"),
        ("ROLLBACK AND NO CHAIN", "Rollback"),
        ("ABORT", "Rollback"),
        ("ROLLBACK TO SAVEPOINT a", "RollbackToSavepoint"),
        ("SAVEPOINT a", "Savepoint"),
        ("RELEASE a", "ReleaseSavepoint"),
        ("DECLARE c BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT 1", "Declare"),
        ("DECLARE c CURSOR FOR SUBSCRIBE v", "Declare"),
        ("FETCH c", "Fetch"),
        ("FETCH FORWARD 10 FROM c", "Fetch"),
        ("FETCH ALL IN c", "Fetch"),
        ("CLOSE ALL", "Close"),
        ("PREPARE p (int, text) AS SELECT $1, $2", "Prepare"),
        ("EXECUTE p (1 + 1, 'x')", "Execute"),
        ("EXECUTE p", "Execute"),
        ("DEALLOCATE PREPARE ALL", "Deallocate"),
        ("DISCARD ALL", "Discard"),
        ("CHECKPOINT", "Checkpoint"),
        ("ALTER TABLE t ADD COLUMN b int", "Alter"),
        ("ALTER TABLE IF EXISTS ONLY s.t ALTER a TYPE text USING a::text, ADD CONSTRAINT c UNIQUE (a)", "Alter"),
        ("ALTER SEQUENCE s RESTART WITH -5 NO CYCLE OWNED BY t.a", "Alter"),
        ("CREATE SEQUENCE IF NOT EXISTS s AS int START 3 INCREMENT BY -1", "CreateSequence"),
        ("CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY (START WITH 3 INCREMENT BY 2 NO CYCLE))", "CreateTable"),
        ("CREATE TEMP TABLE t AS SELECT 1 WITH NO DATA", "CreateTable"),
        ("CREATE SCHEMA IF NOT EXISTS s AUTHORIZATION u", "CreateSchema"),
        ("COMMENT ON COLUMN s.t.a IS 'it''s'", "Comment"),
        ("VACUUM (VERBOSE) ANALYZE t (a), u", "Maintenance"),
        ("LOCK TABLE ONLY t, u IN SHARE ROW EXCLUSIVE MODE NOWAIT", "Maintenance"),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v WITH DATA", "Maintenance"),
        ("SET CONSTRAINTS a, b DEFERRED", "SetConstraints"),
        ("CREATE FUNCTION f() RETURNS int AS $$ select 1; $$ LANGUAGE sql", "Unsupported"),
        ("GRANT SELECT ON t TO u", "Role"),
        ("GRANT a, b TO c WITH ADMIN OPTION", "Role"),
        ("REVOKE ALL ON SCHEMA public FROM public", "Role"),
        ("CREATE USER u WITH PASSWORD 'x' VALID UNTIL 'infinity' CONNECTION LIMIT 3 IN ROLE a, b", "Role"),
        ("ALTER ROLE u NOLOGIN", "Role"),
        ("ALTER ROLE u SET search_path TO a, b", "Role"),
        ("DROP ROLE IF EXISTS u, v", "Role"),
        ("CREATE USER MAPPING FOR u SERVER s", "Unsupported"),
        ("LISTEN c", "Notify"),
        ("NOTIFY c, 'payload'", "Notify"),
        ("UNLISTEN *", "Notify"),
    ];
    for (text, expected) in statements {
        assert_eq!(kind(text), expected, "{text}");
    }
}

#[test]
fn options_keep_names_and_values() {
    let Ast::CreateSource(source) = one(
        "CREATE SOURCE S (a int, \"B\" text) FROM FILE (PATH 'it''s', FOLLOW, X.Y = -3, Z (1, b)) FORMAT CSV WITH (NULL 'NA')",
    ) else {
        panic!("no source")
    };
    let options: Vec<(&str, &str)> =
        source.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(options, [("follow", "true"), ("path", "it's"), ("x.y", "-3"), ("z", "1,b")]);
    assert_eq!((source.name.name.as_str(), source.columns.len()), ("s", 2));
    assert_eq!(source.format_options["null"], "NA");
    assert_eq!(source.format.as_deref(), Some("csv"));
    let Ast::CreateSource(source) = one("CREATE SOURCE s FROM LOAD GENERATOR NEXMARK (TABLE bid, TICK INTERVAL '1 s')")
    else {
        panic!("no source")
    };
    assert_eq!((source.options["table"].as_str(), source.options["tick_interval"].as_str()), ("bid", "1 s"));
}

#[test]
fn a_text_splits_into_statements_with_their_own_text() {
    let statements = parse("SELECT 'a;b'; -- x;\n  create view v as select 1 ;;\nCOMMIT").unwrap();
    let found: Vec<(&str, usize)> =
        statements.iter().map(|statement| (statement.text.as_str(), statement.offset)).collect();
    assert_eq!(found, [("SELECT 'a;b'", 0), ("create view v as select 1", 22), ("COMMIT", 51)]);
    let Ast::CreateView(view) = &statements[1].ast else { panic!("no view") };
    assert_eq!(view.query_text, "select 1");
    assert!(parse(" -- nothing\n").unwrap().is_empty());
}

#[test]
fn errors_are_where_postgres_puts_them() {
    let at = |message: &str, position: u32| (message.to_string(), Some(position));
    assert_eq!(error("SELEC 1"), at("syntax error at or near \"SELEC\"", 1));
    assert_eq!(error("SELECT 1; SELECT FROM WHERE"), at("syntax error at or near \"WHERE\"", 23));
    assert_eq!(error("SELECT (1"), at("syntax error at end of input", 10));
    assert_eq!(error("SELECT 1 2"), at("syntax error at or near \"2\"", 10));
    assert_eq!(error("é; SELECT"), at("syntax error at or near \"é\"", 1));
    assert_eq!(error("CREATE SOURCE s (a int)"), at("syntax error at end of input", 24));
    assert_eq!(error("DROP TABLE"), at("syntax error at end of input", 11));
    assert_eq!(error("INSERT INTO t VALUES (1,)").1, Some(25));
    assert_eq!(error("CREATE TABLE t (a\nint,, b int)"), at("syntax error at or near \",\"", 23));
    assert_eq!(error("SELECT 'abc").0, "unterminated quoted string at or near \"'abc\"");
}

#[test]
fn the_standards_window_functions_become_plain_calls() {
    let shown = |text: &str| parse_query(text).unwrap().to_string();
    assert_eq!(
        shown("SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 hour')) AS w"),
        "SELECT * FROM TUMBLE(t, ts, INTERVAL '1 hour') AS w"
    );
    assert_eq!(
        shown("SELECT * FROM HOP(TABLE s.t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '2' HOUR), TABLE(f(1))"),
        "SELECT * FROM HOP(s.t, ts, INTERVAL '1' HOUR, INTERVAL '2' HOUR), TABLE(f(1))"
    );
}

#[test]
fn positions_count_characters_of_the_statement() {
    let query = parse_query("SELECT 'é',\n  b FROM t").unwrap();
    let sqlparser::ast::SetExpr::Select(select) = query.body.as_ref() else { panic!("no select") };
    assert_eq!(position(&select.projection[1]), Some(15));
}

#[test]
fn bombs_are_refused_in_time() {
    let started = Instant::now();
    let bombs = [
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT {}1{}", "(".repeat(190), ")".repeat(190)),
        format!("SELECT * FROM {}t{}", "(".repeat(190), ")".repeat(190)),
        format!("SELECT 1 {}", "+ 1".repeat(1_000_000)),
        format!("SELECT {}1", "- ".repeat(1_000_000)),
        format!("SELECT {}true", "NOT ".repeat(900)),
        format!("SELECT {}", "CASE WHEN ".repeat(100_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(100_000)),
        format!("SELECT a{}", "[1]".repeat(100_000)),
        format!("EXPLAIN {}SELECT 1", "EXPLAIN ".repeat(100_000)),
        format!("SELECT {}1{}", "(SELECT ".repeat(199), ")".repeat(199)),
        format!("SELECT {}1{}", "f(".repeat(199), ")".repeat(199)),
        format!("CREATE TABLE t (a {}int{})", "STRUCT<".repeat(10_000), ">".repeat(10_000)),
        "'".repeat(1_000_001),
        "$".repeat(1_000_000),
        "/*".repeat(1_000_000),
    ];
    for bomb in bombs {
        let _ = parse(&bomb);
        assert!(started.elapsed() < Duration::from_secs(60), "{}", &bomb[..60]);
    }
}

#[test]
fn a_long_statement_is_no_problem_by_its_length() {
    let text = format!("INSERT INTO t VALUES ('{}')", "x".repeat(10_000_000));
    assert_eq!(parse(&text).unwrap()[0].text.len(), text.len());
    let list = format!("SELECT {}", vec!["1"; 20_000].join(","));
    assert!(parse(&list).is_ok());
}
