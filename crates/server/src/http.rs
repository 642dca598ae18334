//! HTTP for those who run the server: `/health`, `/ready`, and Prometheus' `/metrics`.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use engine::{Engine, Metric, MetricKind};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::pg::told_to_stop;

/// The engine, once it has started: HTTP answers before.
pub(crate) type Shown = Arc<OnceLock<Engine>>;

/// Serves until told to stop.
pub(crate) async fn serve(listener: TcpListener, shown: Shown, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown);
    let stopped = async move { told_to_stop(&mut stop).await };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.get().is_some_and(Engine::is_ready) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
    }
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let samples = shown.get().map(|engine| engine.metrics()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exposition(&samples))
}

/// Prometheus' text format. Samples of one family stand together under one HELP and TYPE, families in the order in
/// which they first come.
fn exposition(samples: &[Metric]) -> String {
    let mut families: Vec<(&str, Vec<&Metric>)> = Vec::new();
    let mut indexes: HashMap<&str, usize> = HashMap::new();
    for sample in samples {
        let family = family(sample);
        let index = *indexes.entry(family).or_insert_with(|| {
            families.push((family, Vec::new()));
            families.len() - 1
        });
        families[index].1.push(sample);
    }
    let mut text = String::new();
    for (name, samples) in families {
        let kind = match samples[0].kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {}", samples[0].help.replace('\\', "\\\\").replace('\n', "\\n"));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for sample in samples {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", label_value(value))).collect();
            text.push_str(&sample.name);
            if !labels.is_empty() {
                let _ = write!(text, "{{{}}}", labels.join(","));
            }
            let _ = writeln!(text, " {}", sample_value(sample.value));
        }
    }
    text
}

/// A histogram's buckets, sum and count are one family.
fn family(sample: &Metric) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    match sample.kind {
        MetricKind::Histogram => {
            suffixes.iter().find_map(|suffix| sample.name.strip_suffix(suffix)).unwrap_or(&sample.name)
        }
        _ => &sample.name,
    }
}

fn label_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn sample_value(value: f64) -> String {
    match value {
        value if value == f64::INFINITY => "+Inf".to_string(),
        value if value == f64::NEG_INFINITY => "-Inf".to_string(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_labels_are_escaped() {
        let sample = |name: &str, kind, labels: &[(&str, &str)], value| Metric {
            name: name.to_string(),
            help: "Help.",
            kind,
            labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            value,
        };
        let text = exposition(&[
            sample("rows_total", MetricKind::Counter, &[("view", "a\"b\\")], 3.0),
            sample("peek_bucket", MetricKind::Histogram, &[("le", "+Inf")], 2.0),
            sample("rows_total", MetricKind::Counter, &[], 0.5),
            sample("peek_count", MetricKind::Histogram, &[], 2.0),
        ]);
        let expected = "# HELP rows_total Help.\n# TYPE rows_total counter\nrows_total{view=\"a\\\"b\\\\\"} 3\n\
             rows_total 0.5\n# HELP peek Help.\n# TYPE peek histogram\npeek_bucket{le=\"+Inf\"} 2\npeek_count 2\n";
        assert_eq!(text, expected);
    }
}
