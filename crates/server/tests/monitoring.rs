//! What watches the server fits what it shows: every metric that the Grafana dashboard asks for is one that `/metrics` has, by the
//! labels it has, and Prometheus looks where the container listens.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use ask::{becomes, run, scalar};
use serde_json::Value;
use server::{Server, root};

const DASHBOARD: &str = "scripts/docker/grafana/provisioning/dashboards/tidewater.json";

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_metrics_that_are_there() {
    let server = Server::start();
    let client = server.connect().await;
    let folder = tempfile::TempDir::new().expect("a temporary directory");
    let path = folder.path().join("numbers.csv");
    fs::write(&path, "1\n2\nx\n").expect("a file");
    run(&client, &format!("CREATE SOURCE s (x int) FROM FILE (PATH '{}') FORMAT CSV", path.display())).await;
    run(&client, "CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM s GROUP BY x").await;
    becomes(&client, "SELECT * FROM v", &["1|1", "2|1"]).await;
    assert_eq!(scalar(&client, "SELECT count(*) FROM tw_catalog.tw_errors").await, "1");

    let metrics = metrics(server.http_port);
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let names = words(target["expr"].as_str().expect("an expression"));
            let names: Vec<&String> = names.iter().filter(|name| name.starts_with("tidewater_")).collect();
            assert!(!names.is_empty(), "{target}");
            for name in names {
                let labels = metrics.get(name).unwrap_or_else(|| panic!("/metrics has no {name}"));
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                    assert!(labels.contains(label.0), "{name} has the labels {labels:?}, not {}", label.0);
                }
                asked.insert(name.clone());
            }
        }
    }
    assert!(asked.len() >= 8, "{asked:?}");
    // What an operator needs, whether the dashboard shows it or not.
    for name in ["tidewater_rows_in_total", "tidewater_frontier_lag_ms", "tidewater_memory_bytes", "tidewater_sessions"]
    {
        assert!(metrics.contains_key(name), "/metrics has no {name}");
    }
}

#[test]
fn prometheus_looks_where_the_container_listens() {
    assert!(read("scripts/docker/prometheus.yml").contains("targets: [\"tidewater:7480\"]"));
    assert!(read("docker-compose.yml").contains("\n  tidewater:\n"));
    assert!(read("scripts/docker/Dockerfile").contains("\"--http\", \"0.0.0.0:7480\""));
    assert!(read("scripts/docker/grafana/provisioning/datasources/prometheus.yml").contains("http://prometheus:9090"));
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of an expression that may be names.
fn words(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).map(str::to_string).collect()
}

/// Each metric's labels.
fn metrics(http_port: u16) -> BTreeMap<String, BTreeSet<String>> {
    let mut socket = TcpStream::connect(("127.0.0.1", http_port)).expect("HTTP listens");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in answer.lines().filter(|line| line.starts_with("tidewater_")) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
        let labels =
            rest.split(['{', ',']).filter_map(|label| label.split_once("=\"")).map(|(name, _)| name.to_string());
        metrics.entry(name.to_string()).or_default().extend(labels);
    }
    metrics
}
