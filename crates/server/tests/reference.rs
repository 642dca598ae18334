//! Keeps `docs/reference/settings.md` and `docs/reference/metrics.md` what a server says. `TIDEWATER_COMPLETE=1` writes them anew.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;

use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_settings_is_up_to_date() {
    let server = Server::start();
    let client = server.connect().await;
    let mut page =
        "# Settings\n\nGenerated from a server's `SHOW ALL` by `crates/server/tests/reference.rs`; do not edit.\n\n\
         | setting | default | meaning |\n|---|---|---|\n"
            .to_string();
    for row in client.query("SHOW ALL", &[]).await.expect("SHOW ALL is answered") {
        let cell = |index: usize| row.get::<_, String>(index).replace('|', "\\|");
        writeln!(page, "| `{}` | {} | {} |", cell(0), cell(1), cell(2)).unwrap();
    }
    up_to_date("settings.md", &page);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_up_to_date() {
    let server = Server::start();
    let client = server.connect().await;
    let objects = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); \
                   CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM t";
    client.batch_execute(objects).await.expect("objects to measure");
    client.batch_execute("SELECT * FROM v").await.expect("a read to measure");
    let mut metrics = BTreeMap::new();
    for line in scrape(server.http_port).lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.entry(name.to_string()).or_insert_with(|| (help.to_string(), String::new()));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            metrics.entry(name.to_string()).or_default().1 = kind.to_string();
        }
    }
    let mut page = "# Metrics\n\nWhat `/metrics` tells Prometheus. Generated from a server by `crates/server/tests/reference.rs`; \
         do not edit.\n\n| metric | kind | meaning |\n|---|---|---|\n"
        .to_string();
    for (name, (help, kind)) in metrics {
        writeln!(page, "| `{name}` | {kind} | {help} |").unwrap();
    }
    up_to_date("metrics.md", &page);
}

fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("a request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer is text");
    answer
}

fn up_to_date(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("TIDEWATER_COMPLETE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/reference/{name} is not what a server says: run this with TIDEWATER_COMPLETE=1");
}
