//! Sources on a real Apache Kafka: every format and both forms of the SQL, several partitions, broken messages, and views that
//! stay right while messages come in and while the server or the broker stops and starts.
//!
//! What "right" means is counted on the producer's side: no message is lost, none is counted twice.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/server.rs"]
mod server;

use std::time::{Duration, Instant};

use ask::{becomes, eventually, failure, rows, run, scalar};
use kafka::{Broker, broker, produce, wait};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use server::Server;
use tokio_postgres::Client;

/// Declares a source of `{"id": .., "kind": ..}` under the topic's name.
async fn declare(client: &Client, broker: &Broker, topic: &str) {
    let address = broker.address();
    run(client, &format!("CREATE CONNECTION IF NOT EXISTS k TO KAFKA (BROKER '{address}')")).await;
    run(
        client,
        &format!("CREATE SOURCE {topic} (id bigint, kind text) FROM KAFKA CONNECTION k (TOPIC '{topic}') FORMAT JSON"),
    )
    .await;
}

fn order(id: u64) -> String {
    format!("{{\"id\": {id}, \"kind\": \"{}\"}}", ["ash", "elm", "fir"][id as usize % 3])
}

/// Produces the orders with these ids, spread over the partitions.
fn produce_orders(producer: &BaseProducer, topic: &str, partition_count: i32, ids: std::ops::Range<u64>) {
    for partition in 0..partition_count {
        let of_partition = ids.clone().filter(|id| (*id % partition_count as u64) as i32 == partition);
        produce(producer, topic, partition, &of_partition.map(order).collect::<Vec<_>>());
    }
}

/// What a view of `count(*), sum(id), count(DISTINCT id)` says of the ids below `end`.
fn all_once(end: u64) -> String {
    format!("{end}|{}|{end}", end * end.saturating_sub(1) / 2)
}

const TOTALS: &str = "SELECT count(*) AS n, sum(id) AS total, count(DISTINCT id) AS ids";

#[tokio::test(flavor = "multi_thread")]
async fn every_format_in_both_forms() {
    let broker = broker().await;
    let address = broker.address();
    let producer = broker.producer();
    let server = Server::start();
    let client = server.connect().await;
    run(&client, &format!("CREATE CONNECTION k TO KAFKA (BROKER '{address}')")).await;
    for topic in ["as_json", "as_csv", "as_text", "as_bytes"] {
        broker.create_topic(topic, 3).await;
    }
    for partition in 0..3 {
        let text = |row: &str| row.replace('@', &partition.to_string());
        let json = [r#"{"id": @, "name": "nö\n", "tags": [1, @], "extra": {"a": 1}}"#, r#"{"NAME": null, "id": "@0"}"#];
        produce(&producer, "as_json", partition, &json.map(text));
        produce(&producer, "as_csv", partition, &["@,\"a, \"\"b\"\"\",2024-02-29", "@0,,"].map(text));
        produce(&producer, "as_text", partition, &["line @ of \"text\"", ""].map(text));
        produce(&producer, "as_bytes", partition, &[vec![0, 255, partition as u8], vec![]]);
    }
    let ours = |columns: &str, topic: &str, format: &str| {
        format!("CREATE SOURCE ours_{topic} {columns} FROM KAFKA CONNECTION k (TOPIC '{topic}') FORMAT {format}")
    };
    let theirs = |columns: &str, topic: &str, format: &str| {
        format!(
            "CREATE SOURCE theirs_{topic} {columns} WITH (connector = 'kafka', topic = '{topic}', \
             properties.bootstrap.server = '{address}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE {format}"
        )
    };
    for (columns, topic, format, expected) in [
        (
            "(id int, name text, tags int[], extra jsonb)",
            "as_json",
            "JSON",
            vec![
                "0|NULL|NULL|NULL",
                "0|nö\n|{1,0}|{\"a\": 1}",
                "10|NULL|NULL|NULL",
                "1|nö\n|{1,1}|{\"a\": 1}",
                "20|NULL|NULL|NULL",
                "2|nö\n|{1,2}|{\"a\": 1}",
            ],
        ),
        (
            "(id int, name text, day date)",
            "as_csv",
            "CSV",
            vec![
                "0|NULL|NULL",
                "0|a, \"b\"|2024-02-29",
                "10|NULL|NULL",
                "1|a, \"b\"|2024-02-29",
                "20|NULL|NULL",
                "2|a, \"b\"|2024-02-29",
            ],
        ),
        (
            "(line text)",
            "as_text",
            "TEXT",
            vec!["", "", "", "line 0 of \"text\"", "line 1 of \"text\"", "line 2 of \"text\""],
        ),
        ("(data bytea)", "as_bytes", "BYTES", vec!["\\x", "\\x", "\\x", "\\x00ff00", "\\x00ff01", "\\x00ff02"]),
    ] {
        for statement in [ours(columns, topic, format), theirs(columns, topic, format)] {
            run(&client, &statement).await;
        }
        for source in [format!("ours_{topic}"), format!("theirs_{topic}")] {
            // Before a view reads it, while one does, and through it.
            assert_eq!(rows(&client, &format!("SELECT * FROM {source}")).await, expected, "{source}");
            run(&client, &format!("CREATE MATERIALIZED VIEW {source}_view AS SELECT * FROM {source}")).await;
            becomes(&client, &format!("SELECT * FROM {source}_view"), &expected).await;
            assert_eq!(rows(&client, &format!("SELECT * FROM {source}")).await, expected, "{source}");
        }
    }
    assert_eq!(scalar(&client, "SELECT count(*) FROM tw_catalog.tw_errors").await, "0");
    let positions = "SELECT part, position FROM tw_catalog.tw_sources WHERE object_name = 'ours_as_csv'";
    assert_eq!(rows(&client, positions).await, ["0|2", "1|2", "2|2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_starts_at_the_offsets_that_are_asked_for() {
    let broker = broker().await;
    let producer = broker.producer();
    broker.create_topic("numbers", 3).await;
    for (partition, count) in [(0, 4), (1, 2), (2, 0)] {
        let numbers: Vec<String> = (0..count).map(|number| format!("{partition}{number}")).collect();
        produce(&producer, "numbers", partition, &numbers);
    }
    let server = Server::start();
    let client = server.connect().await;
    run(&client, &format!("CREATE CONNECTION k TO KAFKA (BROKER '{}')", broker.address())).await;
    let declare = |name: &str, option: &str| {
        format!("CREATE SOURCE {name} (line text) FROM KAFKA CONNECTION k (TOPIC 'numbers'{option}) FORMAT TEXT")
    };
    let cases = [
        ("all_of_it", "", vec!["00", "01", "02", "03", "10", "11"]),
        ("said_so", ", START OFFSET earliest", vec!["00", "01", "02", "03", "10", "11"]),
        ("listed", ", START OFFSET (3, 1, 0)", vec!["03", "11"]),
        // Partitions that do not have that many messages yet are waited for.
        ("from_second", ", START OFFSET 1", vec!["01", "02", "03", "11"]),
        ("from_third", ", START OFFSET = 2", vec!["02", "03"]),
    ];
    for (name, option, expected) in &cases {
        run(&client, &declare(name, option)).await;
        assert_eq!(rows(&client, &format!("SELECT * FROM {name}")).await, *expected, "{name}");
        run(&client, &format!("CREATE MATERIALIZED VIEW {name}_view AS SELECT * FROM {name}")).await;
        becomes(&client, &format!("SELECT * FROM {name}_view"), expected).await;
    }
    produce(&producer, "numbers", 2, &["20", "21", "22"]);
    for (name, _, mut expected) in cases {
        expected.extend(match name {
            "from_second" => vec!["21", "22"],
            "from_third" => vec!["22"],
            _ => vec!["20", "21", "22"],
        });
        becomes(&client, &format!("SELECT * FROM {name}_view"), &expected).await;
        assert_eq!(rows(&client, &format!("SELECT * FROM {name}")).await, expected, "{name}");
    }
    assert_eq!(failure(&client, &declare("x", ", START OFFSET latest")).await.0, "0A000");
    assert_eq!(failure(&client, &declare("x", ", START OFFSET (1, 2)")).await.0, "22023");
    assert_eq!(failure(&client, &declare("x", ", START OFFSET 'soon'")).await.0, "22023");
    assert_eq!(rows(&client, "SELECT object_name, message FROM tw_catalog.tw_errors").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn views_keep_right_while_messages_come() {
    let broker = broker().await;
    broker.create_topic("orders", 4).await;
    let server = Server::start();
    let client = server.connect().await;
    declare(&client, &broker, "orders").await;
    run(&client, &format!("CREATE MATERIALIZED VIEW totals AS {TOTALS} FROM orders")).await;
    run(&client, "CREATE MATERIALIZED VIEW kinds AS SELECT kind, count(*) AS n FROM orders GROUP BY kind").await;
    let producer = broker.producer();
    let producing = std::thread::spawn(move || {
        for batch in 0..60 {
            produce_orders(&producer, "orders", 4, batch * 500..(batch + 1) * 500);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut last = 0;
    let mut looks = 0;
    while !producing.is_finished() {
        // Both views at one time: they have seen the same messages. And no view ever goes back.
        let both =
            scalar(&client, "SELECT (SELECT n FROM totals) || ' ' || (SELECT coalesce(sum(n), 0) FROM kinds)").await;
        let (total, by_kind) = both.split_once(' ').expect("two numbers");
        assert_eq!(total, by_kind);
        let total: u64 = total.parse().expect("a number");
        assert!(total >= last, "{total} after {last}");
        last = total;
        looks += 1;
        if looks == 5 {
            // One that comes later reads the history by itself.
            run(&client, &format!("CREATE MATERIALIZED VIEW late AS {TOTALS} FROM orders")).await;
        }
    }
    producing.join().expect("all was produced");
    assert!(looks > 5, "only {looks} looks");
    for view in ["totals", "late"] {
        becomes(&client, &format!("SELECT * FROM {view}"), &[&all_once(30_000)]).await;
    }
    becomes(&client, "SELECT * FROM kinds", &["ash|10000", "elm|10000", "fir|10000"]).await;
    assert_eq!(rows(&client, &format!("{TOTALS} FROM orders")).await, [all_once(30_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_neither_loses_nor_doubles() {
    let broker = broker().await;
    broker.create_topic("restarted", 3).await;
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let mut server = Server::start_in(dir.path(), &[]);
    let mut client = server.connect().await;
    declare(&client, &broker, "restarted").await;
    run(&client, "CREATE TABLE kinds (kind text PRIMARY KEY, label text)").await;
    run(&client, "INSERT INTO kinds VALUES ('ash', 'A'), ('elm', 'E')").await;
    run(&client, &format!("CREATE MATERIALIZED VIEW totals AS {TOTALS} FROM restarted")).await;
    let joined = "SELECT label, count(*) AS n FROM restarted JOIN kinds USING (kind) GROUP BY label";
    run(&client, &format!("CREATE MATERIALIZED VIEW labels AS {joined}")).await;
    let producer = broker.producer();
    let producing = std::thread::spawn(move || {
        for batch in 0..100 {
            produce_orders(&producer, "restarted", 3, batch * 300..(batch + 1) * 300);
            std::thread::sleep(Duration::from_millis(60));
        }
    });
    for clean in [false, true, false, true] {
        eventually("some messages are read", async || scalar(&client, "SELECT n FROM totals").await != "0").await;
        drop(client);
        if clean {
            assert_eq!(server.terminate().code(), Some(0));
        } else {
            server.kill();
        }
        server = Server::start_in(dir.path(), &[]);
        client = server.connect().await;
        let found = rows(&client, "SELECT n, ids FROM totals").await;
        let (n, ids) = found[0].split_once('|').expect("two numbers");
        assert_eq!(n, ids, "a message is counted twice");
    }
    producing.join().expect("all was produced");
    becomes(&client, "SELECT * FROM totals", &[&all_once(30_000)]).await;
    becomes(&client, "SELECT * FROM labels", &["A|10000", "E|10000"]).await;
    assert_eq!(rows(&client, joined).await, ["A|10000", "E|10000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_waited_for() {
    let mut broker = broker().await;
    broker.create_topic("interrupted", 2).await;
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Server::start_in(dir.path(), &[]);
    let client = server.connect().await;
    declare(&client, &broker, "interrupted").await;
    run(&client, &format!("CREATE MATERIALIZED VIEW totals AS {TOTALS} FROM interrupted")).await;
    produce_orders(&broker.producer(), "interrupted", 2, 0..100);
    becomes(&client, "SELECT * FROM totals", &[&all_once(100)]).await;

    broker.stop();
    // The answers that are there stay there, and everything else goes on.
    for _ in 0..20 {
        assert_eq!(rows(&client, "SELECT * FROM totals").await, [all_once(100)]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run(&client, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await;
    run(&client, "CREATE MATERIALIZED VIEW crossed AS SELECT n, x FROM totals, t").await;
    becomes(&client, "SELECT * FROM crossed", &["100|1"]).await;
    // What needs the broker says so, in bounded time.
    let started = Instant::now();
    let statement = "CREATE SOURCE late (line text) FROM KAFKA CONNECTION k (TOPIC 'interrupted') FORMAT TEXT";
    let (state, message) = failure(&client, statement).await;
    assert_eq!(state, "08006", "{message}");
    assert!(message.contains(&broker.address()), "{message}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let (state, message) = failure(&client, "SELECT count(*) FROM interrupted").await;
    assert_eq!(state, "08006", "{message}");

    broker.start();
    produce_orders(&broker.producer(), "interrupted", 2, 100..250);
    becomes(&client, "SELECT * FROM totals", &[&all_once(250)]).await;
    becomes(&client, "SELECT * FROM crossed", &["250|1"]).await;

    // It crashes, and while it is away the server restarts: views come when it is back.
    broker.kill();
    server.kill();
    let server = Server::start_in(dir.path(), &[]);
    let client = server.connect().await;
    assert_eq!(scalar(&client, "SELECT x FROM t").await, "1");
    eventually("the reason is told", async || {
        let told = "SELECT count(*) FROM tw_catalog.tw_errors WHERE object_name = 'interrupted' AND state = '08006'";
        scalar(&client, told).await == "1"
    })
    .await;
    // No answer is better than that of an empty topic.
    assert_eq!(failure(&client, "SELECT * FROM totals").await.0, "08006");
    broker.start();
    produce_orders(&broker.producer(), "interrupted", 2, 250..300);
    eventually("views are there again", async || client.simple_query("SELECT * FROM totals").await.is_ok()).await;
    becomes(&client, "SELECT * FROM totals", &[&all_once(300)]).await;
    becomes(&client, "SELECT count(*) FROM tw_catalog.tw_errors", &["0"]).await;
    assert_eq!(rows(&client, &format!("{TOTALS} FROM interrupted")).await, [all_once(300)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_at_once() {
    let broker = broker().await;
    broker.create_topic("there", 1).await;
    let server = Server::start();
    let client = server.connect().await;
    run(&client, &format!("CREATE CONNECTION k TO KAFKA (BROKER '{}')", broker.address())).await;
    let (state, message) =
        failure(&client, "CREATE SOURCE s (line text) FROM KAFKA CONNECTION k (TOPIC 'nowhere') FORMAT TEXT").await;
    assert_eq!((state.as_str(), message.contains("topic \"nowhere\" does not exist")), ("42704", true), "{message}");
    for (statement, wanted) in [
        ("CREATE SOURCE s (line text) FROM KAFKA CONNECTION nothing (TOPIC 'there') FORMAT TEXT", "42704"),
        ("CREATE SOURCE s (line text) FROM KAFKA CONNECTION k FORMAT TEXT", "22023"),
        ("CREATE SOURCE s (line text) FROM KAFKA CONNECTION k (TOPIC 'there', TOPIK 'x') FORMAT TEXT", "22023"),
        ("CREATE SOURCE s (a int, b int) FROM KAFKA CONNECTION k (TOPIC 'there') FORMAT TEXT", "42P16"),
        ("CREATE SOURCE s (a int) FROM KAFKA CONNECTION k (TOPIC 'there') FORMAT PROTOBUF", "42704"),
        ("CREATE SOURCE s (a int) FROM KAFKA CONNECTION k (TOPIC 'there')", "42601"),
        (
            "CREATE SOURCE s (a int) FROM KAFKA CONNECTION k (TOPIC 'there', properties.nonsense = '1') FORMAT JSON",
            "22023",
        ),
    ] {
        assert_eq!(failure(&client, statement).await.0, wanted, "{statement}");
    }
    let (state, message) = failure(
        &client,
        "CREATE SOURCE s (a int) WITH (connector = 'kafka', topic = 'there', \
         properties.bootstrap.server = '127.0.0.1:1') FORMAT PLAIN ENCODE JSON",
    )
    .await;
    assert_eq!(state, "08006", "{message}");
    // Nothing of all this is left, and the session goes on.
    assert_eq!(rows(&client, "SELECT name FROM tw_catalog.tw_objects").await, ["k"]);
    run(&client, "CREATE SOURCE s (line text) FROM KAFKA CONNECTION k (TOPIC 'there') FORMAT TEXT").await;
    assert_eq!(scalar(&client, "SELECT count(*) FROM s").await, "0");
    // A connection that is used stays.
    assert_eq!(failure(&client, "DROP CONNECTION k").await.0, "2BP01");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_are_told_and_the_rest_goes_on() {
    let broker = broker().await;
    broker.create_topic("broken", 2).await;
    let producer = broker.producer();
    produce(&producer, "broken", 0, &[order(0).as_bytes(), b"nonsense", br#"{"id": "x"}"#, order(1).as_bytes()]);
    produce(
        &producer,
        "broken",
        1,
        &[b"\xff\xfe".as_slice(), b"", br#"{"id": 99999999999999999999}"#, order(2).as_bytes()],
    );
    // A message without a value, as compacted topics have them.
    producer.send(BaseRecord::<[u8], [u8]>::to("broken").partition(1).key(b"key")).expect("it is sent");
    wait(&producer);
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Server::start_in(dir.path(), &[]);
    let client = server.connect().await;
    declare(&client, &broker, "broken").await;
    run(&client, &format!("CREATE MATERIALIZED VIEW totals AS {TOTALS} FROM broken")).await;
    run(&client, "CREATE MATERIALIZED VIEW again AS SELECT kind FROM broken").await;
    let expected = [
        "topic broken, partition 0, offset 1|nonsense|22P02|1",
        "topic broken, partition 0, offset 2|{\"id\": \"x\"}|22P02|1",
        "topic broken, partition 1, offset 0|\u{fffd}\u{fffd}|22021|1",
        "topic broken, partition 1, offset 1||22P02|1",
        "topic broken, partition 1, offset 2|{\"id\": 99999999999999999999}|22003|1",
        "topic broken, partition 1, offset 4||22P03|1",
    ];
    let errors = "SELECT location, input, state, count FROM tw_catalog.tw_errors WHERE object_name = 'broken'";
    becomes(&client, "SELECT * FROM totals", &[&all_once(3)]).await;
    becomes(&client, errors, &expected).await;
    produce(&producer, "broken", 0, &[order(3)]);
    becomes(&client, "SELECT * FROM totals", &[&all_once(4)]).await;
    assert_eq!(rows(&client, &format!("{TOTALS} FROM broken")).await, [all_once(4)]);
    // Reading it again tells the same, and nothing twice.
    server.kill();
    let server = Server::start_in(dir.path(), &[]);
    let client = server.connect().await;
    becomes(&client, "SELECT * FROM totals", &[&all_once(4)]).await;
    becomes(&client, errors, &expected).await;
    assert_eq!(scalar(&client, "SELECT count(*) FROM tw_catalog.tw_errors").await, "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_committed_is_read() {
    let broker = broker().await;
    broker.create_topic("transactions", 1).await;
    let producer: BaseProducer = broker.config().set("transactional.id", "tests").create().expect("a producer");
    producer.init_transactions(Duration::from_secs(30)).expect("transactions");
    for (ids, commit) in [(0..10, true), (100..110, false), (10..20, true), (200..210, false)] {
        producer.begin_transaction().expect("a transaction");
        produce_orders(&producer, "transactions", 1, ids);
        match commit {
            true => producer.commit_transaction(Duration::from_secs(30)).expect("a commit"),
            false => producer.abort_transaction(Duration::from_secs(30)).expect("a rollback"),
        }
    }
    let server = Server::start();
    let client = server.connect().await;
    declare(&client, &broker, "transactions").await;
    // The topic ends with messages that are not to be read, which must not keep the SELECT waiting for them.
    assert_eq!(rows(&client, &format!("{TOTALS} FROM transactions")).await, [all_once(20)]);
    run(&client, &format!("CREATE MATERIALIZED VIEW totals AS {TOTALS} FROM transactions")).await;
    becomes(&client, "SELECT * FROM totals", &[&all_once(20)]).await;
    run(&client, &format!("CREATE MATERIALIZED VIEW late AS {TOTALS} FROM transactions")).await;
    becomes(&client, "SELECT * FROM late", &[&all_once(20)]).await;
    assert_eq!(rows(&client, &format!("{TOTALS} FROM transactions")).await, [all_once(20)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_read() {
    let broker = broker().await;
    let server = Server::start();
    let client = server.connect().await;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("in_{codec}");
        broker.create_topic(&topic, 1).await;
        let producer = broker.config().set("compression.codec", codec).set("linger.ms", "50").create();
        let producer: BaseProducer = producer.expect(codec);
        produce_orders(&producer, &topic, 1, 0..1000);
        declare(&client, &broker, &topic).await;
        run(&client, &format!("CREATE MATERIALIZED VIEW {topic}_totals AS {TOTALS} FROM {topic}")).await;
        becomes(&client, &format!("SELECT * FROM {topic}_totals"), &[&all_once(1000)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_told_and_one_that_grows_is_followed() {
    let broker = broker().await;
    broker.create_topic("growing", 1).await;
    broker.create_topic("doomed", 1).await;
    let producer = broker.producer();
    produce_orders(&producer, "growing", 1, 0..10);
    produce_orders(&producer, "doomed", 1, 0..10);
    let server = Server::start();
    let client = server.connect().await;
    for topic in ["growing", "doomed"] {
        declare(&client, &broker, topic).await;
        run(&client, &format!("CREATE MATERIALIZED VIEW {topic}_totals AS {TOTALS} FROM {topic}")).await;
        becomes(&client, &format!("SELECT * FROM {topic}_totals"), &[&all_once(10)]).await;
    }
    broker.delete_topic("doomed").await;
    broker.add_partitions("growing", 3).await;
    eventually("the new partitions are there", async || broker.partition_count("growing") == 3).await;
    // The first producer hears of them late.
    produce(&broker.producer(), "growing", 2, &(10..20).map(order).collect::<Vec<_>>());
    becomes(&client, "SELECT * FROM growing_totals", &[&all_once(20)]).await;
    assert_eq!(rows(&client, &format!("{TOTALS} FROM growing")).await, [all_once(20)]);
    eventually("the deletion is told", async || {
        let told = "SELECT count(*) FROM tw_catalog.tw_errors WHERE object_name = 'doomed'";
        scalar(&client, told).await == "1"
    })
    .await;
    // What was read stays until the source is dropped.
    assert_eq!(rows(&client, "SELECT * FROM doomed_totals").await, [all_once(10)]);
    run(&client, "DROP SOURCE doomed CASCADE").await;
    assert_eq!(scalar(&client, "SELECT count(*) FROM tw_catalog.tw_errors").await, "0");
}
