//! Input as it is in the world: files with broken lines, files that grow, shrink, vanish and come back, statements that are far
//! too large, values that a view cannot be computed from. What is broken is told with its place, and all the rest goes on.
//!
//! COPY's options for CSV are compared with real PostgreSQL reading the same bytes.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/server.rs"]
mod server;
#[path = "support/wire.rs"]
mod wire;

use std::fs;
use std::io::Write;

use std::time::Duration;

use ask::{becomes, eventually, failure, rows, run, scalar};
use postgres::Postgres;
use server::{Server, connect};
use tempfile::TempDir;
use tokio_postgres::Client;
use wire::{Wire, bind, execute, parse, query, sync};

const ERRORS: &str = "SELECT object_name, location, input, state, message FROM tw_catalog.tw_errors";

/// A folder of files, and how a statement names them.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(TempDir::new().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).expect("a file");
        self.path(name)
    }

    fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let file = fs::OpenOptions::new().append(true).create(true).open(self.path(name));
        file.expect("a file").write_all(bytes.as_ref()).expect("it takes more");
    }
}

/// Declares a source and a view that is all of it.
async fn declare(client: &Client, name: &str, columns: &str, from: &str) {
    run(client, &format!("CREATE SOURCE {name} ({columns}) FROM FILE {from}")).await;
    run(client, &format!("CREATE MATERIALIZED VIEW {name}_view AS SELECT * FROM {name}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_lines_are_told_with_their_place_and_the_rest_goes_on() {
    let (server, files) = (Server::start(), Files::new());
    let client = server.connect().await;
    let csv = files.write(
        "a.csv",
        b"id,name,day\n1,ash,2024-02-29\nx,elm,2024-01-01\n2,fir\n3,oak,2024-01-01,more\n4,\xff,2024-01-01\n5,yew,2024-02-30\n\
          6,\"open,2024-01-01\n7,\"a\nb\",2024-01-02\n99999999999,big,\n\n8,last,",
    );
    let json = files.write(
        "a.json",
        b"{\"id\": 1, \"name\": \"ash\"}\n{\"id\": 2,\n[1, 2]\n{\"id\": \"x\"}\nnull\n\n{\"id\": 1.5}\n\
          {\"id\": 3, \"name\": \"\\ud800\"}\n{\"id\": 4, \"name\": \"\\u0000\"}\n{\"id\": 5, \"name\": {\"a\": [1]}} x\n{\"id\": 6, \"name\": {\"a\": 1}}",
    );
    declare(&client, "c", "id int, name text, day date", &format!("(PATH '{csv}') FORMAT CSV WITH HEADER")).await;
    declare(&client, "j", "id int, name text", &format!("(PATH '{json}') FORMAT JSON")).await;
    // The quote that line 7 leaves open is closed on line 8, whose own quote is then open: COPY reads it so too.
    becomes(&client, "SELECT * FROM c_view", &["1|ash|2024-02-29", "8|last|NULL"]).await;
    becomes(&client, "SELECT * FROM j_view", &["1|ash", "6|{\"a\": 1}"]).await;
    for source in ["c", "j"] {
        let (kept, read) = (format!("SELECT * FROM {source}_view"), format!("SELECT * FROM {source}"));
        assert_eq!(rows(&client, &kept).await, rows(&client, &read).await);
    }
    let told = "SELECT location, state, message FROM tw_catalog.tw_errors WHERE object_name = 'c'";
    let told = rows(&client, told).await;
    let expected = [
        (29, "22P02|invalid input syntax for type integer: \"x\""),
        (46, "22P04|missing data for column \"day\""),
        (52, "22P04|extra data after last expected column"),
        (74, "22021|invalid byte sequence for encoding \"UTF8\": 0xff"),
        (89, "22008|date/time field value out of range: \"2024-02-30\""),
    ];
    for (offset, message) in expected {
        let line = format!("{csv}, byte {offset}|{message}");
        assert!(told.contains(&line), "{line}\nis not among\n{}", told.join("\n"));
    }
    assert!(
        told.iter().any(|line| line.contains("22003|value \"99999999999\" is out of range for type integer")),
        "{told:?}"
    );
    let told = "SELECT input, state FROM tw_catalog.tw_errors WHERE object_name = 'j'";
    let expected = [
        "[1, 2]|22P02",
        "null|22P02",
        "{\"id\": \"x\"}|22P02",
        "{\"id\": 1.5}|22P02",
        "{\"id\": 2,|22P02",
        "{\"id\": 3, \"name\": \"\\ud800\"}|22P02",
        "{\"id\": 4, \"name\": \"\\u0000\"}|22P05",
        "{\"id\": 5, \"name\": {\"a\": [1]}} x|22P02",
    ];
    assert_eq!(rows(&client, told).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_is_read_as_copy_reads_it() {
    let Some(postgres) = Postgres::start() else { panic!("PostgreSQL 15 is not installed: scripts/setup installs it") };
    let theirs = connect(&postgres.connection_string("postgres")).await;
    let (server, files) = (Server::start(), Files::new());
    let ours = server.connect().await;
    let cases: [(&str, &str); 12] = [
        ("", "1,a,b\n2,,\"\"\n3,\"x, \"\"y\"\"\",\" z \"\n"),
        ("", "1,a\"b,c\"d,\"e\"f\n2, \"a\" ,b\n"),
        ("", "1,\"two\nlines\",\"\r\n\"\r\n2,a,b\r\n"),
        ("", "1,\\N,\\\n2,'a','b'\n"),
        ("HEADER", "id,\"a\nb\",c\n1,a,b\n"),
        ("DELIMITER ';'", "1;a,b;c\n2;\";\";\n"),
        ("DELIMITER E'\\t'", "1\ta\tb\n2\t\t\"\t\"\n"),
        ("NULL 'NA'", "1,NA,\"NA\"\nNA,,na\n"),
        ("NULL '-', DELIMITER '|'", "1|-|\"-\"\n-||--\n"),
        ("QUOTE ''''", "1,'a,''b',\"c\"\n2,'',x\n"),
        ("ESCAPE E'\\\\'", "1,\"a\\\"b\",\"c\\\\d\"\n2,\"\\x\",\\\"\"\n"),
        ("QUOTE '$', ESCAPE '!', NULL 'none', HEADER", "h,h,h\n1,$a!$b$,$c!!d$\n2,none,$none$\n"),
    ];
    for (index, (options, text)) in cases.into_iter().enumerate() {
        run(&theirs, &format!("CREATE TABLE t{index} (id int, a text, b text)")).await;
        let with = if options.is_empty() { String::new() } else { format!(", {options}") };
        let sink = theirs.copy_in(&format!("COPY t{index} FROM STDIN WITH (FORMAT csv{with})")).await.expect(options);
        let mut sink = std::pin::pin!(sink);
        let bytes = tokio_postgres_bytes(text);
        futures::SinkExt::send(&mut sink, bytes).await.expect(options);
        sink.finish().await.unwrap_or_else(|error| panic!("{options}: {error:?}"));
        let expected = rows(&theirs, &format!("SELECT * FROM t{index}")).await;

        let path = files.write(&format!("{index}.csv"), text);
        let with = if options.is_empty() { String::new() } else { format!("WITH ({options})") };
        declare(&ours, &format!("t{index}"), "id int, a text, b text", &format!("(PATH '{path}') FORMAT CSV {with}"))
            .await;
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        becomes(&ours, &format!("SELECT * FROM t{index}_view"), &expected).await;
    }
    assert_eq!(rows(&ours, ERRORS).await, Vec::<String>::new());
    // What COPY refuses is refused.
    let path = files.write("x.csv", "1,a,b\n");
    for options in ["DELIMITER '||'", "QUOTE ''", "ESCAPE 'ab'", "DELIMITER '\"'", "NULL ','", "HEADER maybe", "FREEZ"]
    {
        let statement = format!("CREATE SOURCE x (id int) FROM FILE (PATH '{path}') FORMAT CSV WITH ({options})");
        assert_eq!(failure(&ours, &statement).await.0, "22023", "{options}");
    }
}

fn tokio_postgres_bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_file_may_grow_shrink_vanish_and_be_another() {
    let (files, data) = (Files::new(), TempDir::new().expect("a temporary directory"));
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    let path = files.write("f.csv", "id,name\n1,ash\n2,e");
    declare(&client, "f", "id int, name text", &format!("(PATH '{path}', FOLLOW) FORMAT CSV WITH HEADER")).await;
    run(&client, "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, sum(id) AS s FROM f").await;
    // Half a line is no line, neither for the view nor for a SELECT.
    becomes(&client, "SELECT * FROM f_view", &["1|ash"]).await;
    assert_eq!(rows(&client, "SELECT * FROM f").await, ["1|ash"]);
    files.append("f.csv", "lm\n");
    becomes(&client, "SELECT * FROM f_view", &["1|ash", "2|elm"]).await;
    let many: String = (3..=5000).map(|id| format!("{id},x{id}\n")).collect();
    files.append("f.csv", many);
    becomes(&client, "SELECT * FROM n", &["5000|12502500"]).await;
    assert_eq!(rows(&client, "SELECT count(*), sum(id) FROM f").await, ["5000|12502500"]);
    files.append("f.csv", "broken\n5001,end\n");
    becomes(&client, "SELECT n FROM n", &["5001"]).await;
    let told = "SELECT message FROM tw_catalog.tw_errors WHERE object_name = 'f' AND location LIKE '%f.csv, byte %'";
    assert_eq!(rows(&client, told).await, ["missing data for column \"name\""]);

    // Truncated and written anew: told, and read from its start; what was read before stays.
    files.write("f.csv", "id,name\n-1,new\n");
    becomes(&client, "SELECT n, s FROM n", &["5002|12507500"]).await;
    let told =
        "SELECT count(*) FROM tw_catalog.tw_errors WHERE message LIKE '%f.csv\" was % after % bytes of it were read'";
    assert_eq!(scalar(&client, told).await, "1");
    // Replaced by another of the same name, as log rotation does.
    files.write("next", format!("id,name\n{}", "-2,other\n".repeat(3)));
    fs::rename(files.path("next"), &path).expect("a rename");
    becomes(&client, "SELECT n, s FROM n", &["5005|12507494"]).await;
    assert_eq!(scalar(&client, told).await, "2");
    // Gone, and back.
    fs::remove_file(&path).expect("it was there");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rows(&client, "SELECT n FROM n").await, ["5005"]);
    files.write("f.csv", "id,name\n-3,back\n");
    becomes(&client, "SELECT n, s FROM n", &["5006|12507491"]).await;

    // After a restart the source is what the file is now.
    server.kill();
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    becomes(&client, "SELECT * FROM f_view", &["-3|back"]).await;
    files.append("f.csv", "-4,more\n");
    becomes(&client, "SELECT * FROM f_view", &["-3|back", "-4|more"]).await;
    // And the server starts although the file is gone.
    drop(client);
    server.kill();
    fs::remove_file(&path).expect("it was there");
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    becomes(&client, "SELECT n FROM n", &["0"]).await;
    files.write("f.csv", "id,name\n7,again\n");
    becomes(&client, "SELECT * FROM f_view", &["7|again"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_at_a_restart_is_told_until_it_is_back() {
    let (files, data) = (Files::new(), TempDir::new().expect("a temporary directory"));
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    let path = files.write("f.json", "{\"id\": 1}\n");
    declare(&client, "f", "id int", &format!("(PATH '{path}') FORMAT JSON")).await;
    becomes(&client, "SELECT * FROM f_view", &["1"]).await;
    server.kill();
    fs::remove_file(&path).expect("it was there");
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    let told = "SELECT object_name, location, state FROM tw_catalog.tw_errors";
    becomes(&client, told, &["f|source|58P01"]).await;
    files.write("f.json", "{\"id\": 2}\n");
    becomes(&client, "SELECT * FROM f_view", &["2"]).await;
    becomes(&client, told, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn globs_and_folders_are_many_files() {
    let (server, files) = (Server::start(), Files::new());
    let client = server.connect().await;
    fs::create_dir(files.path("in")).expect("a folder");
    for (name, text) in
        [("in/a.csv", "x\n1\n"), ("in/b.csv", "x\n2\nbad\n"), ("in/c.txt", "x\n3"), ("in/.hidden", "x\n9\n")]
    {
        files.write(name, text);
    }
    let folder = files.path("in");
    declare(&client, "once", "x int", &format!("(PATH '{folder}/*.csv') FORMAT CSV WITH HEADER")).await;
    declare(&client, "folder", "x int", &format!("(PATH '{folder}/', FOLLOW) FORMAT CSV WITH HEADER")).await;
    declare(&client, "glob", "x int", &format!("(PATH '{folder}/[ab]*', FOLLOW) FORMAT CSV WITH HEADER")).await;
    becomes(&client, "SELECT * FROM once_view", &["1", "2"]).await;
    // c.txt has no end of its last line yet.
    becomes(&client, "SELECT * FROM folder_view", &["1", "2"]).await;
    becomes(&client, "SELECT * FROM glob_view", &["1", "2"]).await;
    files.append("in/c.txt", "\n");
    files.write("in/a2.csv", "x\n4\n");
    files.append("in/a.csv", "5\n");
    becomes(&client, "SELECT * FROM folder_view", &["1", "2", "3", "4", "5"]).await;
    becomes(&client, "SELECT * FROM glob_view", &["1", "2", "4", "5"]).await;
    assert_eq!(rows(&client, "SELECT * FROM folder").await, ["1", "2", "3", "4", "5"]);
    assert_eq!(rows(&client, "SELECT * FROM once_view").await, ["1", "2"]);
    let place = format!("{folder}/b.csv, byte 4");
    let expected = [format!("folder|{place}"), format!("glob|{place}"), format!("once|{place}")];
    assert_eq!(rows(&client, "SELECT object_name, location FROM tw_catalog.tw_errors").await, expected);

    let nothing = files.path("nothing");
    for (path, state) in
        [(nothing.clone(), "58P01"), (format!("{nothing}/*.csv"), "58P01"), (format!("{folder}/[z"), "22023")]
    {
        let statement = format!("CREATE SOURCE x (x int) FROM FILE (PATH '{path}') FORMAT CSV");
        assert_eq!(failure(&client, &statement).await.0, state, "{path}");
    }
    let empty = files.write("empty", "");
    declare(&client, "empty", "x int", &format!("(PATH '{empty}') FORMAT CSV WITH HEADER")).await;
    run(&client, "CREATE MATERIALIZED VIEW none AS SELECT count(*) AS n FROM empty").await;
    becomes(&client, "SELECT * FROM none", &["0"]).await;
    assert_eq!(rows(&client, "SELECT * FROM empty").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_end_is_no_trouble() {
    let (server, files) = (Server::start(), Files::new());
    let client = server.connect().await;
    let long = "y".repeat(70 << 20);
    let path = files.write("long.csv", format!("1,a\n2,{long}\n3,b\n"));
    declare(&client, "long", "id int, name text", &format!("(PATH '{path}', FOLLOW) FORMAT CSV")).await;
    becomes(&client, "SELECT * FROM long_view", &["1|a", "3|b"]).await;
    let told = "SELECT location, state, length(input) < 2000 FROM tw_catalog.tw_errors";
    assert_eq!(rows(&client, told).await, [format!("{path}, byte 4|54000|t")]);
    // Long, but not too long.
    let path = files.write("shorter.json", format!("{{\"id\": 1, \"name\": \"{}\"}}\n", &long[..30 << 20]));
    declare(&client, "shorter", "id int, name text", &format!("(PATH '{path}') FORMAT JSON")).await;
    becomes(&client, "SELECT id, length(name) FROM shorter_view", &[&format!("1|{}", 30 << 20)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_division_by_zero_is_told_and_heals() {
    let server = Server::start();
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id int PRIMARY KEY, a int, b int)").await;
    run(&client, "CREATE MATERIALIZED VIEW quotients AS SELECT id, a / b AS q FROM t").await;
    run(&client, "CREATE MATERIALIZED VIEW sums AS SELECT sum(q) AS s, count(*) AS n FROM quotients").await;
    run(&client, "CREATE MATERIALIZED VIEW kept AS SELECT id FROM t WHERE 10 / b > 1").await;
    run(&client, "INSERT INTO t VALUES (1, 10, 2), (2, 5, 0), (3, 9, 3)").await;
    // The rest is there, in every view; what failed is told with its row.
    assert_eq!(rows(&client, "SELECT * FROM quotients").await, ["1|5", "3|3"]);
    assert_eq!(rows(&client, "SELECT * FROM sums").await, ["8|2"]);
    assert_eq!(rows(&client, "SELECT * FROM kept").await, ["1", "3"]);
    let told = "SELECT object_name, state, message, count FROM tw_catalog.tw_errors";
    let expected = ["kept|22012|division by zero|1", "quotients|22012|division by zero|1"];
    let found = rows(&client, told).await;
    assert!(expected.iter().all(|line| found.iter().any(|found| found == line)), "{found:?}");
    let input = scalar(&client, "SELECT input FROM tw_catalog.tw_errors WHERE object_name = 'quotients'").await;
    assert!(input.contains('2') && input.contains('5') && input.contains('0'), "{input}");
    // From scratch it is an error of the whole query, as in PostgreSQL.
    assert_eq!(failure(&client, "SELECT id, a / b FROM t").await.0, "22012");
    assert_eq!(scalar(&client, "SELECT count(*) FROM t").await, "3");

    // A reader of the view is warned.
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("SELECT * FROM quotients"));
    let warnings: Vec<String> =
        wire.until('Z').iter().filter(|reply| reply.tag == 'N').filter_map(|reply| reply.field('M')).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("tw_errors"), "{warnings:?}");

    // It heals when the row does, and breaks and heals again.
    for divisor in [5, 0, 1, 0] {
        run(&client, &format!("UPDATE t SET b = {divisor} WHERE id = 2")).await;
        let (quotients, errors): (Vec<String>, &str) = match divisor {
            0 => (vec!["1|5".to_string(), "3|3".to_string()], "1"),
            _ => (vec!["1|5".to_string(), format!("2|{}", 5 / divisor), "3|3".to_string()], "0"),
        };
        assert_eq!(rows(&client, "SELECT * FROM quotients").await, quotients);
        let of_view = "SELECT count(*) FROM tw_catalog.tw_errors WHERE object_name = 'quotients'";
        becomes(&client, of_view, &[errors]).await;
    }
    run(&client, "DELETE FROM t WHERE id = 2").await;
    assert_eq!(rows(&client, "SELECT * FROM sums").await, ["8|2"]);
    becomes(&client, "SELECT count(*) FROM tw_catalog.tw_errors", &["0"]).await;
    // A view that is made while the row is broken starts without it.
    run(&client, "INSERT INTO t VALUES (4, 1, 0)").await;
    run(&client, "CREATE MATERIALIZED VIEW late AS SELECT id, a % b AS r FROM t").await;
    assert_eq!(rows(&client, "SELECT * FROM late").await, ["1|0", "3|0"]);
    run(&client, "UPDATE t SET b = 1 WHERE id = 4").await;
    assert_eq!(rows(&client, "SELECT * FROM late").await, ["1|0", "3|0", "4|0"]);
    becomes(&client, "SELECT count(*) FROM tw_catalog.tw_errors", &["0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_comes_back_after_statements_of_100_mb() {
    let server = Server::start();
    let mut wire = Wire::session(server.pg_port);
    wire.send(&query("SELECT 1"));
    wire.until('Z');
    let before = server.resident_bytes();
    let text = format!("SELECT length('{}')", "x".repeat(100 << 20));
    for _ in 0..4 {
        wire.send(&query(&text));
        wire.until('Z');
        wire.send(&[parse("", &text), bind("", &[]), execute("", 0), sync()].concat());
        wire.until('Z');
    }
    // Statements that are within the limit, and one that goes away in its middle.
    let within = format!("SELECT length('{}')", "x".repeat(8 << 20));
    for _ in 0..4 {
        wire.send(&query(&within));
        assert!(wire.until('Z').iter().any(|reply| reply.tag == 'D'));
    }
    let mut vanishing = Wire::session(server.pg_port);
    vanishing.send(&query(&text)[..50 << 20]);
    drop(vanishing);
    wire.send(&query("SELECT 1"));
    wire.until('Z');
    eventually("the memory is given back", async || server.resident_bytes() < before + (100 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_client_that_vanishes_ends() {
    let server = Server::start();
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (x int)").await;
    run(&client, "INSERT INTO t SELECT g FROM generate_series(1, 1000) AS g").await;
    let dataflows = "SELECT count(*) FROM tw_catalog.tw_frontiers";
    let before = scalar(&client, dataflows).await;
    // A subscription to a query has a dataflow of its own.
    let mut following = Vec::new();
    for modulus in 1..=5 {
        let mut wire = Wire::session(server.pg_port);
        wire.send(&query(&format!("SUBSCRIBE TO (SELECT x % {modulus} AS m, count(*) AS n FROM t GROUP BY 1)")));
        wire.until('D');
        following.push(wire);
    }
    let during: u64 = scalar(&client, dataflows).await.parse().expect("a count");
    assert!(during > before.parse().expect("a count"), "{during} dataflows");
    drop(following);
    becomes(&client, dataflows, &[&before]).await;
    becomes(&client, "SELECT count(*) FROM pg_stat_activity", &["1"]).await;
    // Nobody reads, and changes go on coming: the server does not keep them for ever.
    let mut deaf = Wire::session(server.pg_port);
    deaf.send(&query("SUBSCRIBE TO t"));
    deaf.until('D');
    for round in 0..20 {
        run(&client, &format!("INSERT INTO t SELECT g + {round} FROM generate_series(1, 5000) AS g")).await;
    }
    assert_eq!(scalar(&client, "SELECT count(*) FROM t").await, "101000");
    drop(deaf);
    becomes(&client, "SELECT count(*) FROM pg_stat_activity", &["1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_behind_the_watermark_are_left_out_for_every_reader() {
    let (files, data) = (Files::new(), TempDir::new().expect("a temporary directory"));
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    // Each file has its own watermark, and what has no event time is never late.
    let lines = |rows: &[(&str, u32)]| -> String {
        rows.iter().map(|(time, number)| format!("2026-01-01 {time},{number}\n")).collect()
    };
    files.write("a.csv", lines(&[("12:00", 1), ("12:10", 2), ("12:04", 3), ("12:05", 4)]) + ",5\n");
    files.write("b.csv", lines(&[("11:00", 6), ("10:54", 7)]));
    let columns = "at timestamp, n int, WATERMARK FOR at AS at - INTERVAL '5' MINUTE";
    let from = format!("FROM FILE (PATH '{}', FOLLOW) FORMAT CSV", files.path(""));
    run(&client, &format!("CREATE SOURCE punctual ({columns}) WITH (LATE ROWS = drop) {from}")).await;
    run(&client, &format!("CREATE SOURCE patient ({columns}) {from}")).await;
    run(&client, &format!("CREATE SOURCE tardy ({columns}) WITH (LATE ROWS = only) {from}")).await;
    run(&client, &format!("CREATE SOURCE most ({columns}) WITH (LATE ROWS INTO the_rest) {from}")).await;
    run(&client, "CREATE MATERIALIZED VIEW kept AS SELECT n FROM punctual").await;
    run(&client, "CREATE MATERIALIZED VIEW everything AS SELECT n FROM patient").await;
    becomes(&client, "SELECT * FROM kept ORDER BY n", &["1", "2", "4", "5", "6"]).await;
    becomes(&client, "SELECT * FROM everything ORDER BY n", &["1", "2", "3", "4", "5", "6", "7"]).await;
    files.append("a.csv", lines(&[("12:30", 8), ("12:24", 9)]));
    files.append("b.csv", lines(&[("10:55", 10)]));
    let punctual = ["1", "10", "2", "4", "5", "6", "8"];
    becomes(&client, "SELECT * FROM kept ORDER BY n", &punctual).await;
    // A view that comes later, a query from scratch, and all of it again after a restart.
    run(&client, "CREATE MATERIALIZED VIEW later AS SELECT n, at FROM punctual").await;
    for relation in ["punctual", "later"] {
        becomes(&client, &format!("SELECT n FROM {relation} ORDER BY n"), &punctual).await;
    }
    becomes(&client, "SELECT n FROM tardy ORDER BY n", &["3", "7", "9"]).await;
    assert_eq!(rows(&client, "SELECT n FROM most ORDER BY n").await, punctual);
    assert_eq!(rows(&client, "SELECT n FROM the_rest ORDER BY n").await, ["3", "7", "9"]);
    let told = "SELECT right(part, 5), watermark FROM tw_catalog.tw_sources WHERE object_name = 'punctual' ORDER BY 1";
    let watermarks = ["a.csv|2026-01-01 12:25:00", "b.csv|2026-01-01 10:55:00"];
    assert_eq!(rows(&client, told).await, watermarks);
    server.kill();
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    for relation in ["punctual", "later", "kept", "most"] {
        becomes(&client, &format!("SELECT n FROM {relation} ORDER BY n"), &punctual).await;
    }
    assert_eq!(rows(&client, "SELECT n FROM the_rest ORDER BY n").await, ["3", "7", "9"]);
    assert_eq!(rows(&client, told).await, watermarks);
}

/// Windows are given when the least watermark has reached their end, each once, whoever reads: the view, those who follow it, a view
/// that comes later, and all of it after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn windows_are_given_once_when_they_close() {
    let (files, data) = (Files::new(), TempDir::new().expect("a temporary directory"));
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    files.write("a.csv", "1,10\n12,20\n3,30\n,40\n");
    files.write("b.csv", "2,1\n");
    let source = "CREATE SOURCE s (at int, n int, WATERMARK FOR at AS at - 2) WITH (LATE ROWS = drop)";
    run(&client, &format!("{source} FROM FILE (PATH '{}', FOLLOW) FORMAT CSV", files.path(""))).await;
    let query = "SELECT window_end, count(*), sum(n) FROM TUMBLE(s, at, 5) GROUP BY window_end";
    let create = format!("WITH (RETAIN HISTORY FOR '1 hour') AS {query} EMIT ON WINDOW CLOSE");
    run(&client, &format!("CREATE MATERIALIZED VIEW v {create}")).await;
    let now = "SELECT (extract(epoch FROM mz_now()) * 1000)::bigint";
    let start = scalar(&client, now).await;
    // b is at 2, less 2: nothing ends by that. a's 3 is late there.
    assert!(rows(&client, "SELECT * FROM v").await.is_empty());
    files.append("b.csv", "6,2\n4,3\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(rows(&client, "SELECT * FROM v").await.is_empty(), "4 may still come");
    files.append("b.csv", "7,4\n");
    becomes(&client, "SELECT * FROM v", &["5|3|14"]).await;
    files.append("a.csv", "13,50\n");
    files.append("b.csv", "30,5\n");
    becomes(&client, "SELECT * FROM v", &["10|2|6", "5|3|14"]).await;
    files.append("a.csv", "31,60\n");
    let all = ["10|2|6", "15|2|70", "5|3|14"];
    becomes(&client, "SELECT * FROM v", &all).await;
    // A view that comes now finds the same.
    run(&client, &format!("CREATE MATERIALIZED VIEW later AS {query} EMIT ON WINDOW CLOSE")).await;
    becomes(&client, "SELECT * FROM later", &all).await;
    assert_eq!(rows(&client, &format!("{query} HAVING window_end <= 28")).await, all);
    assert_eq!(scalar(&client, "SELECT count(*) FROM tw_catalog.tw_errors").await, "0");
    let followed = format!("SUBSCRIBE v AS OF {start} UP TO {}", scalar(&client, now).await);
    let followed = rows(&client, &followed).await;
    let told: Vec<&str> = followed.iter().filter_map(|row| Some(row.split_once('|')?.1)).collect();
    assert_eq!(told, ["1|5|3|14", "1|10|2|6", "1|15|2|70"], "each window once, in the order of time");
    server.kill();
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    for view in ["v", "later"] {
        becomes(&client, &format!("SELECT * FROM {view}"), &all).await;
    }
    // A new file may be far behind the others: its rows are told, for their windows were given.
    files.write("c.csv", "1,1000\n33,2\n");
    let told = "SELECT DISTINCT message FROM tw_catalog.tw_errors WHERE object_name = 'v'";
    becomes(&client, told, &["the row came after its window was closed"]).await;
    assert_eq!(rows(&client, "SELECT * FROM v").await, all);
}

/// A table's late rows are not stored, so its watermark is that of its rows, and what closed stays closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_goes_on_from_its_watermark_after_a_restart() {
    let data = TempDir::new().expect("a temporary directory");
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    let table = "CREATE TABLE t (at int, WATERMARK FOR at AS at - 2) APPEND ONLY WITH (LATE ROWS = drop)";
    let view = "CREATE MATERIALIZED VIEW v AS SELECT window_end, count(*) FROM TUMBLE(t, at, 5) GROUP BY window_end";
    run(&client, &format!("{table}; {view} EMIT ON WINDOW CLOSE")).await;
    run(&client, "INSERT INTO t VALUES (1), (8), (3)").await;
    assert_eq!(rows(&client, "SELECT * FROM v").await, ["5|1"], "3 is late");
    server.kill();
    let server = Server::start_in(data.path(), &[]);
    let client = server.connect().await;
    assert_eq!(rows(&client, "SELECT * FROM v").await, ["5|1"]);
    run(&client, "INSERT INTO t VALUES (4), (6)").await;
    run(&client, "INSERT INTO t VALUES (13)").await;
    assert_eq!(rows(&client, "SELECT * FROM v").await, ["10|2", "5|1"]);
    assert_eq!(rows(&client, "SELECT * FROM t").await, ["1", "13", "6", "8"]);
    assert_eq!(scalar(&client, "SELECT count(*) FROM tw_catalog.tw_errors").await, "0");
}
