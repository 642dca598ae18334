//! The Postgres wire as clients use and misuse it: startup, both query protocols, COPY, SUBSCRIBE, cancellation, and
//! every kind of malformed, truncated, oversized and abandoned conversation. Whatever one client does, the server goes on
//! for the others.

#[path = "support/server.rs"]
mod server;
#[path = "support/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use server::{Server, connect};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use wire::{Wire, bind, execute, message, parse, query, startup, sync, tags};

const SSL_REQUEST: u32 = 80877103;
const GSS_REQUEST: u32 = 80877104;
const CANCEL_REQUEST: u32 = 80877102;

/// The server answers a new client.
async fn assert_serves(server: &mut Server) {
    assert!(server.is_alive(), "the server has died");
    let row = server.connect().await.query_one("SELECT 1", &[]).await.expect("a new session works");
    assert_eq!(row.get::<_, i32>(0), 1);
}

/// Waits for something that another task brings about.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn scalar(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.expect(sql);
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
        _ => None,
    });
    value.expect("a row")
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_in_all_its_forms() {
    let mut server = Server::start();
    // Encryption is refused, and the client goes on without.
    let mut wire = Wire::open(server.pg_port);
    for code in [GSS_REQUEST, SSL_REQUEST] {
        wire.send(&[&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat());
        assert_eq!(wire.byte(), b'N');
    }
    wire.send(&startup(3 << 16, &[("user", "someone"), ("application_name", "a test")]));
    let replies = wire.until('Z');
    assert_eq!(replies[0].tag, 'R');
    let told: Vec<String> =
        replies.iter().filter(|reply| reply.tag == 'S').map(|reply| reply.text().replace('\0', "=")).collect();
    for wanted in [
        "application_name=a test",
        "client_encoding=UTF8",
        "default_transaction_read_only=off",
        "in_hot_standby=off",
        "integer_datetimes=on",
        "server_encoding=UTF8",
        "session_authorization=someone",
        "standard_conforming_strings=on",
    ] {
        assert!(told.iter().any(|setting| setting == wanted), "{wanted} is not among {told:?}");
    }
    for name in ["server_version=1", "DateStyle=ISO", "TimeZone=", "IntervalStyle=postgres", "is_superuser="] {
        assert!(told.iter().any(|setting| setting.starts_with(name)), "{name} is not among {told:?}");
    }
    assert_eq!(replies[replies.len() - 2].tag, 'K');

    // 3.2 is spoken, what is newer is negotiated, what is older is refused.
    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup((3 << 16) + 2, &[("user", "test")]));
    assert_eq!(wire.until('Z')[0].tag, 'R');
    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup((3 << 16) + 9999, &[("user", "test"), ("_pq_.unheard_of", "1")]));
    let replies = wire.until('Z');
    assert_eq!(replies[0].tag, 'v');
    assert_eq!(replies[0].body, [&196610u32.to_be_bytes()[..], &1u32.to_be_bytes(), b"_pq_.unheard_of\0"].concat());
    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup(2 << 16, &[]));
    assert_eq!(wire.rest()[0].field('C').as_deref(), Some("0A000"));

    // Neither user nor database is needed.
    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup(3 << 16, &[]));
    wire.until('Z');
    assert_serves(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_before_a_session_ends_that_connection_alone() {
    let mut server = Server::start();
    for (what, bytes) in [
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a length of zero", vec![0; 64]),
        ("a length below zero", vec![0xff; 64]),
        ("a huge length", [&i32::MAX.to_be_bytes()[..], &[0, 3, 0, 0]].concat()),
        ("a parameter without an end", [&20u32.to_be_bytes()[..], &[0, 3, 0, 0], b"user\0abcdefg"].concat()),
        ("a parameter without a value", [&13u32.to_be_bytes()[..], &[0, 3, 0, 0], b"user\0"].concat()),
        ("bytes after the parameters", [&12u32.to_be_bytes()[..], &[0, 3, 0, 0], b"\0\0\0\0"].concat()),
    ] {
        let mut wire = Wire::open(server.pg_port);
        wire.send(&bytes);
        wire.finish();
        let replies = wire.rest();
        assert_eq!(replies.first().and_then(|reply| reply.field('C')).as_deref(), Some("08P01"), "{what}");
        assert_eq!(replies.first().and_then(|reply| reply.field('S')).as_deref(), Some("FATAL"), "{what}");
    }
    // Cut short, there is nobody left to answer.
    let whole = startup(3 << 16, &[("user", "test")]);
    for length in 0..whole.len() {
        let mut wire = Wire::open(server.pg_port);
        wire.send(&whole[..length]);
        wire.finish();
        assert_eq!(wire.rest(), [], "cut at {length}");
    }
    assert_serves(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_08p01_and_the_end() {
    let mut server = Server::start();
    for (what, bytes) in [
        ("an unknown type", message('?', b"")),
        ("a length below four", [b"Q".to_vec(), 3u32.to_be_bytes().to_vec()].concat()),
        ("a length below zero", [b"Q".to_vec(), (-1i32).to_be_bytes().to_vec()].concat()),
        ("a query without an end", message('Q', b"SELECT 1")),
        ("an empty query message", message('Q', b"")),
        ("bytes after a query", message('Q', b"SELECT 1\0x")),
        ("a Parse without text", message('P', b"name\0")),
        ("a Parse with fewer types than it says", message('P', b"\0SELECT 1\0\0\x05\0\0\0\x17")),
        ("a Bind of nothing", message('B', b"")),
        ("a Bind with a value longer than it is", message('B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff")),
        ("a Bind with a value of negative length", message('B', b"\0\0\0\0\0\x01\xff\xff\xff\xf0\0\0")),
        ("a Bind with 65535 formats", message('B', b"\0\0\xff\xff")),
        ("a Bind with an unknown format", message('B', b"\0\0\0\x01\0\x07\0\0\0\0")),
        ("a Describe of an unknown kind", message('D', b"X\0")),
        ("a Describe of nothing", message('D', b"")),
        ("an Execute without a limit", message('E', b"\0")),
        ("a Close without a name", message('C', b"S")),
        ("a Sync with a body", message('S', b"x")),
        ("a password out of turn", message('p', b"secret\0")),
    ] {
        let mut wire = Wire::session(server.pg_port);
        wire.send(&bytes);
        let replies = wire.rest();
        assert_eq!(tags(&replies), "E", "{what}");
        assert_eq!(replies[0].field('C').as_deref(), Some("08P01"), "{what}");
        assert_eq!(replies[0].field('S').as_deref(), Some("FATAL"), "{what}");
    }
    assert_serves(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_conversations_leave_no_trace() {
    let mut server = Server::start();
    let whole = [parse("s", "SELECT $1::int"), bind("s", &["1"]), execute("s", 0), sync(), query("SELECT 2")].concat();
    for length in 0..whole.len() {
        let mut wire = Wire::session(server.pg_port);
        wire.send(&whole[..length]);
        wire.finish();
        wire.rest();
    }
    assert_serves(&mut server).await;
    let client = server.connect().await;
    eventually("the sessions of vanished clients are gone", async || {
        scalar(&client, "SELECT count(*) FROM pg_stat_activity").await == "1"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_never_harm() {
    let mut server = Server::start();
    // A small generator with a fixed seed: a failure can be run again.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let tags = b"QPBDCEHSdcfXF";
    for _ in 0..300 {
        let mut wire = Wire::session(server.pg_port);
        for _ in 0..random() % 8 {
            let body: Vec<u8> = (0..random() % 40).map(|_| random() as u8 % 80).collect();
            let tag = tags[random() as usize % tags.len()] as char;
            if !wire.try_send(&message(tag, &body)) {
                break;
            }
        }
        wire.finish();
        wire.rest();
    }
    assert_serves(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_100_mb_is_refused_without_harm() {
    let mut server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    let text = format!("SELECT '{}'", "x".repeat(100 << 20));
    wire.send(&query(&text));
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "EZ");
    assert_eq!(replies[0].field('C').as_deref(), Some("54000"));
    // The same, prepared: all is skipped up to Sync.
    wire.send(&[parse("", &text), bind("", &[]), execute("", 0), sync()].concat());
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "EZ");
    assert_eq!(replies[0].field('C').as_deref(), Some("54000"));
    // The session goes on, and a few megabytes are nothing.
    let text = format!("SELECT length('{}')", "x".repeat(4 << 20));
    wire.send(&query(&text));
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "TDCZ");
    assert!(replies[1].body.ends_with(b"4194304"));
    assert_serves(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_parameter_is_data_not_text() {
    let server = Server::start();
    let client = server.connect().await;
    let large = "y".repeat(64 << 20);
    let row = client.query_one("SELECT length($1::text)", &[&large]).await.expect("64 MiB are allowed");
    assert_eq!(row.get::<_, i32>(0), 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_an_error_and_the_session_goes_on() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    wire.send(&message('Q', b"SELECT '\xc3\x28'\0"));
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "EZ");
    assert_eq!(replies[0].field('C').as_deref(), Some("22021"));
    wire.send(&query("SELECT 1"));
    assert_eq!(tags(&wire.until('Z')), "TDCZ");
}

#[tokio::test(flavor = "multi_thread")]
async fn simple_queries() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    let mut answer = |sql: &str| {
        wire.send(&query(sql));
        wire.until('Z')
    };
    assert_eq!(tags(&answer("")), "IZ");
    assert_eq!(tags(&answer(" -- nothing\n ; ")), "IZ");
    let replies = answer("SELECT 1; SELECT 'two', NULL; SELECT 3 WHERE FALSE");
    assert_eq!(tags(&replies), "TDCTDCTCZ");
    assert_eq!(replies[2].text(), "SELECT 1");
    assert_eq!(replies[7].text(), "SELECT 0");
    // The first failure ends the text; its position counts from the text's start, not the statement's.
    let replies = answer("SELECT 'é'; SELECT nothing; SELECT 3");
    assert_eq!(tags(&replies), "TDCEZ");
    assert_eq!(replies[3].field('C').as_deref(), Some("42703"));
    assert_eq!(replies[3].field('P').as_deref(), Some("20"));
    // A syntax error anywhere, and nothing of the text runs.
    let replies = answer("SELECT 1; SELEC 2");
    assert_eq!(tags(&replies), "EZ");
    assert_eq!(replies[0].field('P').as_deref(), Some("11"));
    // Several statements are one transaction.
    answer("CREATE TABLE t (x int PRIMARY KEY)");
    let replies = answer("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)");
    assert_eq!(tags(&replies), "CEZ");
    assert_eq!(replies[1].field('C').as_deref(), Some("23505"));
    assert!(answer("SELECT count(*) FROM t")[1].body.ends_with(b"0"));
    // The state of the transaction is told.
    assert_eq!(answer("BEGIN").last().map(|reply| reply.body.clone()), Some(b"T".to_vec()));
    assert_eq!(answer("SELECT nothing").last().map(|reply| reply.body.clone()), Some(b"E".to_vec()));
    assert_eq!(answer("ROLLBACK").last().map(|reply| reply.body.clone()), Some(b"I".to_vec()));
    // A setting that changes is told.
    let replies = answer("SET application_name = 'renamed'");
    assert!(replies.iter().any(|reply| reply.tag == 'S' && reply.text() == "application_name\0renamed"));
    // The fast path is another way in that we do not have.
    wire.send(&message('F', &[0; 12]));
    let replies = wire.until('Z');
    assert_eq!(replies[0].field('C').as_deref(), Some("0A000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_answered_in_order_and_fails_up_to_sync() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("CREATE TABLE t (x int PRIMARY KEY)"));
    wire.until('Z');
    wire.send(
        &[
            parse("insert", "INSERT INTO t VALUES ($1)"),
            parse("read", "SELECT x FROM t WHERE x >= $1"),
            bind("insert", &["1"]),
            execute("insert", 0),
            bind("read", &["0"]),
            message('D', b"Pread\0"),
            execute("read", 0),
            sync(),
        ]
        .concat(),
    );
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "112C2TDCZ");
    assert!(replies[6].body.ends_with(b"1"));
    // Between two Syncs is one transaction: the insert of 2 goes with the failure after it.
    wire.send(
        &[
            bind("insert", &["2"]),
            execute("insert", 0),
            message('C', b"Pinsert\0"),
            bind("insert", &["1"]),
            execute("insert", 0),
            bind("read", &["0"]),
            execute("read", 0),
            sync(),
            bind("read", &["0"]),
            execute("read", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(tags(&wire.until('Z')), "2C32EZ");
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "2DCZ");
    assert_eq!(replies[2].text(), "SELECT 1");
    // A query text is refused like everything else while skipping.
    wire.send(&[parse("bad", "SELEC"), query("SELECT 1"), sync()].concat());
    assert_eq!(tags(&wire.until('Z')), "EZ");
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_pause_and_go_on() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    wire.send(&[query("BEGIN"), parse("s", "SELECT g FROM generate_series(1, 5) AS g ORDER BY g")].concat());
    wire.until('Z');
    wire.send(&[bind("s", &[]), execute("s", 2), execute("s", 2), execute("s", 2), execute("s", 2), sync()].concat());
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "12DDsDDsDCCZ");
    // They end with their transaction.
    wire.send(&[query("COMMIT"), execute("s", 0), sync()].concat());
    wire.until('Z');
    let replies = wire.until('Z');
    assert_eq!(replies[0].field('C').as_deref(), Some("34000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_extended_protocol_have_their_codes() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    let mut failure = |messages: &[Vec<u8>]| {
        wire.send(&[messages.concat(), sync()].concat());
        let replies = wire.until('Z');
        let error = replies.iter().find(|reply| reply.tag == 'E').expect("an error");
        error.field('C').expect("a state")
    };
    assert_eq!(failure(&[bind("nothing", &[])]), "26000");
    assert_eq!(failure(&[message('D', b"Snothing\0")]), "26000");
    assert_eq!(failure(&[execute("nothing", 0)]), "34000");
    assert_eq!(failure(&[parse("s", "SELECT 1; SELECT 2")]), "42601");
    assert_eq!(failure(&[parse("twice", "SELECT 1"), parse("twice", "SELECT 1")]), "42P05");
    assert_eq!(failure(&[parse("one", "SELECT $1::int"), bind("one", &[])]), "08P01");
    assert_eq!(failure(&[parse("two", "SELECT $1::int"), bind("two", &["x"])]), "22P02");
    // Bind asks for binary in a wrong length: four bytes are wanted.
    let three_bytes = message('B', b"\0one\0\0\x01\0\x01\0\x01\0\0\0\x03abc\0\0");
    assert_eq!(failure(&[three_bytes]), "08P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_and_text_agree_for_every_type() {
    let server = Server::start();
    let client = server.connect().await;
    for (expression, sql_type) in [
        ("TRUE", Type::BOOL),
        ("'-7'::smallint", Type::INT2),
        ("'2147483647'::int", Type::INT4),
        ("'-9223372036854775808'::bigint", Type::INT8),
        ("'1.5'::real", Type::FLOAT4),
        ("'-2.25'::float8", Type::FLOAT8),
        ("'-12345.6780'::numeric", Type::NUMERIC),
        ("'héllo'::text", Type::TEXT),
        ("'abc'::varchar", Type::VARCHAR),
        ("'\\x00ff'::bytea", Type::BYTEA),
        ("'2024-02-29'::date", Type::DATE),
        ("'12:34:56.789'::time", Type::TIME),
        ("'1999-12-31 23:59:59.5'::timestamp", Type::TIMESTAMP),
        ("'2024-02-29 12:00:00+00'::timestamptz", Type::TIMESTAMPTZ),
        ("'1 year 2 days 03:04:05'::interval", Type::INTERVAL),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", Type::UUID),
        ("'{\"a\": 1}'::json", Type::JSON),
        ("'{\"a\": 1}'::jsonb", Type::JSONB),
        ("'{1,2,NULL}'::int[]", Type::INT4_ARRAY),
    ] {
        let row = client.query_one(&format!("SELECT {expression}"), &[]).await.expect(expression);
        assert_eq!(*row.columns()[0].type_(), sql_type, "{expression}");
        // The binary bytes go back as a parameter of the same type, and the server says whether they are the same value.
        let bytes: Raw = row.get(0);
        let same = format!("SELECT ({expression})::text = ($1::{})::text", sql_type.name().replace('_', ""));
        let same = match sql_type {
            Type::INT4_ARRAY => "SELECT '{1,2,NULL}'::int[]::text = $1::int[]::text".to_string(),
            _ => same,
        };
        let row = client.query_one(&same, &[&bytes]).await.unwrap_or_else(|error| panic!("{same}: {error:?}"));
        assert!(row.get::<_, bool>(0), "{expression}");
        let null = client.query_one(&format!("SELECT NULLIF(1, 1)::text, ({expression})"), &[]).await.expect("a NULL");
        assert_eq!(null.get::<_, Option<String>>(0), None);
    }
    let row = client.query_one("SELECT $1::int + 1, $2::text || 'b', $3::float8", &[&41i32, &"a", &0.5f64]).await;
    let row = row.expect("parameters");
    assert_eq!((row.get(0), row.get(1), row.get(2)), (42i32, "ab".to_string(), 0.5f64));
    let row = client.query_one("SELECT $1::int IS NULL", &[&None::<i32>]).await.expect("a NULL parameter");
    assert!(row.get::<_, bool>(0));
}

/// A value's binary form, whatever its type.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl tokio_postgres::types::ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_come_whole() {
    let server = Server::start();
    let client = server.connect().await;
    let rows = client.query("SELECT g, 'row ' || g FROM generate_series(1, 200000) AS g", &[]).await.expect("rows");
    assert_eq!(rows.len(), 200_000);
    let sum: i64 = rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum();
    assert_eq!(sum, 200_000 * 200_001 / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_in_and_out() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("CREATE TABLE t (a int PRIMARY KEY, b text)"));
    wire.until('Z');
    wire.send(&query("COPY t FROM STDIN"));
    assert_eq!(wire.reply().map(|reply| reply.tag), Some('G'));
    // Cut in the middle of a line, and of a message.
    wire.send(&[message('d', b"1\tone\n2\t"), message('d', b"\\N\n"), message('c', b"")].concat());
    let replies = wire.until('Z');
    assert_eq!((tags(&replies).as_str(), replies[0].text()), ("CZ", "COPY 2".to_string()));
    wire.send(&query("COPY t (b, a) FROM STDIN WITH (FORMAT csv, HEADER)"));
    wire.reply();
    wire.send(&[message('d', b"b,a\n\"a,b\",3\n,4\n\"\",5\n"), message('c', b"")].concat());
    assert_eq!(wire.until('Z')[0].text(), "COPY 3");
    wire.send(&query("COPY (SELECT * FROM t ORDER BY a) TO STDOUT WITH (FORMAT csv)"));
    let replies = wire.until('Z');
    assert_eq!(tags(&replies), "HdddddcCZ");
    let lines: Vec<u8> = replies.iter().filter(|reply| reply.tag == 'd').flat_map(|reply| reply.body.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&lines), "1,one\n2,\n3,\"a,b\"\n4,\n5,\"\"\n");
    // A bad line fails the whole COPY; what the client still sends is dropped.
    wire.send(&query("COPY t FROM STDIN"));
    wire.reply();
    wire.send(&[message('d', b"6\tsix\nseven\tx\n"), message('d', b"8\teight\n"), message('c', b"")].concat());
    let replies = wire.until('Z');
    assert_eq!(replies[0].field('C').as_deref(), Some("22P02"));
    // The client may give up.
    wire.send(&query("COPY t FROM STDIN"));
    wire.reply();
    wire.send(&[message('d', b"6\tsix\n"), message('f', b"changed my mind\0")].concat());
    let replies = wire.until('Z');
    assert_eq!(replies[0].field('C').as_deref(), Some("57014"));
    wire.send(&query("SELECT count(*) FROM t"));
    assert!(wire.until('Z')[1].body.ends_with(b"5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribe_sends_each_change_as_it_comes_and_can_be_cancelled() {
    let server = Server::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (x int)").await.expect("a table");
    client
        .batch_execute("CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM t GROUP BY x")
        .await
        .expect("a view");
    client.batch_execute("INSERT INTO t VALUES (1)").await.expect("a row");

    let mut wire = Wire::open(server.pg_port);
    wire.send(&startup(3 << 16, &[("user", "test")]));
    let key = wire.until('Z').into_iter().find(|reply| reply.tag == 'K').expect("a key");
    wire.send(&query("SUBSCRIBE TO v"));
    let replies = wire.until('D');
    assert_eq!(tags(&replies), "TD");
    assert!(String::from_utf8_lossy(&replies[1].body).contains('1'));
    // An update is a retraction and an insertion.
    client.batch_execute("INSERT INTO t VALUES (1)").await.expect("a row");
    assert_eq!(tags(&wire.until('D')), "D");
    assert_eq!(tags(&wire.until('D')), "D");

    // With a wrong key nothing happens; with the right one the subscription ends and the session goes on.
    let cancel = |key: &[u8]| {
        let mut other = Wire::open(server.pg_port);
        other.send(&[&(key.len() as u32 + 8).to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), key].concat());
        other.rest();
    };
    let mut wrong = key.body.clone();
    wrong[4] ^= 1;
    cancel(&wrong);
    client.batch_execute("INSERT INTO t VALUES (2)").await.expect("a row");
    assert_eq!(tags(&wire.until('D')), "D");
    cancel(&key.body);
    let replies = wire.until('Z');
    assert_eq!(replies[replies.len() - 2].field('C').as_deref(), Some("57014"));
    wire.send(&query("SELECT 1"));
    assert_eq!(tags(&wire.until('Z')), "TDCZ");

    wire.send(&query("COPY (SUBSCRIBE TO v) TO STDOUT"));
    let replies = wire.until('d');
    assert_eq!(tags(&replies), "Hd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_from_the_past_ends_where_it_was_told_to() {
    let server = Server::start();
    let client = server.connect().await;
    let make =
        "CREATE TABLE t (x int); CREATE MATERIALIZED VIEW v WITH (RETAIN HISTORY FOR '1 hour') AS SELECT x FROM t";
    client.batch_execute(make).await.expect("a view");
    let mut moments = Vec::new();
    for x in 1..=3 {
        client.batch_execute(&format!("INSERT INTO t VALUES ({x})")).await.expect("a row");
        tokio::time::sleep(Duration::from_millis(20)).await;
        moments.push(scalar(&client, "SELECT (extract(epoch FROM mz_now()) * 1000)::bigint").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let follow = async |options: &str, from: &str, to: &str| {
        let followed = client.simple_query(&format!("SUBSCRIBE v{options} AS OF {from} UP TO {to}")).await;
        let messages = followed.expect("a subscription that ends");
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(2).map(str::to_owned),
            _ => None,
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(follow("", &moments[0], &moments[1]).await, ["1", "2"]);
    assert_eq!(follow(" WITH (SNAPSHOT = false)", &moments[0], &moments[2]).await, ["2", "3"]);
    assert_eq!(follow(" WITH (SNAPSHOT = false)", &moments[1], &moments[1]).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_its_work() {
    let mut server = Server::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (x int)").await.expect("a table");
    let alone = async || scalar(&client, "SELECT count(*) FROM pg_stat_activity").await == "1";

    // While it follows changes that do not come.
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("SUBSCRIBE TO t"));
    wire.until('T');
    drop(wire);
    eventually("the subscription of a vanished client is gone", alone).await;

    // While it does not read what it is sent.
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("SELECT a, b, repeat('x', 100) FROM generate_series(1, 3000) a, generate_series(1, 3000) b"));
    wire.until('T');
    drop(wire);
    eventually("the big query of a vanished client is gone", alone).await;

    // In the middle of a COPY and of a transaction.
    let mut wire = Wire::session(server.pg_port);
    wire.send(&[query("BEGIN"), query("INSERT INTO t VALUES (1)"), query("COPY t FROM STDIN")].concat());
    wire.until('G');
    wire.send(&message('d', b"2\n3\n"));
    drop(wire);
    eventually("the transaction of a vanished client is gone", alone).await;
    assert_eq!(scalar(&client, "SELECT count(*) FROM t").await, "0");
    assert_serves(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_a_long_query() {
    let server = Server::start();
    let client = server.connect().await;
    let alone = async || scalar(&client, "SELECT count(*) FROM pg_stat_activity").await == "1";
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"));
    std::thread::sleep(Duration::from_millis(200));
    drop(wire);
    eventually("the long query of a vanished client is gone", alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_query_is_cancelled() {
    let server = Server::start();
    let client = server.connect().await;
    let token = client.cancel_token();
    let query = tokio::spawn(async move {
        let sql = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b";
        (client.simple_query(sql).await.map(|_| ()), client)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    token.cancel_query(NoTls).await.expect("a cancel request is taken");
    let (result, client) = query.await.expect("the task ends");
    let error = result.expect_err("the query does not end by itself");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(scalar(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_refused() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Server::start_in(dir.path(), &["--max-connections", "3"]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.connect().await);
    }
    let refused = tokio_postgres::connect(&server.connection_string(), NoTls).await.map(|_| ());
    assert_eq!(refused.expect_err("one too many").code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    clients.pop();
    eventually("a place is free again", async || {
        tokio_postgres::connect(&server.connection_string(), NoTls).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_clean_and_what_was_written_stays() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Server::start_in(dir.path(), &[]);
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (x int)").await.expect("a table");
    client.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT sum(x) AS s FROM t").await.expect("a view");
    client.batch_execute("INSERT INTO t VALUES (40), (2)").await.expect("rows");
    let mut following = Wire::session(server.pg_port);
    following.send(&query("SUBSCRIBE TO v"));
    following.until('D');
    let started = Instant::now();
    let status = tokio::task::spawn_blocking(move || server.terminate()).await.expect("it stops");
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10));
    let told = following.rest();
    assert_eq!(told.last().and_then(|reply| reply.field('C')).as_deref(), Some("57P01"));

    let server = Server::start_in(dir.path(), &[]);
    assert_eq!(scalar(&server.connect().await, "SELECT s FROM v").await, "42");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidewater"))
        .args(["serve", "--http", "127.0.0.1:0", "--listen", &address, "--data-dir"])
        .arg(dir.path())
        .output()
        .expect("the tidewater binary runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&format!("cannot listen on {address}")) && error.contains("--listen"), "{error}");
    assert_eq!(output.stdout, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_how_the_server_is() {
    let server = Server::start();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (x int)").await.expect("a table");
    let get = |path: &str| {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", server.http_port)).expect("HTTP listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(get("/health").starts_with("HTTP/1.1 200"));
    assert!(get("/ready").starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("\ntidewater_statements_total "), "{metrics}");
    for line in metrics.split("\r\n\r\n").nth(1).unwrap_or("").lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap_or("");
        assert!(value.parse::<f64>().is_ok() || value.is_empty() || value == "+Inf", "{line}");
    }
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    drop(connect(&server.connection_string()).await);
}
