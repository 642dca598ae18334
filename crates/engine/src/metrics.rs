//! What `/metrics` shows, as plain values.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use repr::ObjectId;

use crate::engine::Shared;
use crate::source::SourceCounts;
use crate::system::dataflow_name;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `tidewater_rows_in_total` and the like.
    pub name: String,
    /// One sentence; the same for every sample of a name.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// How a metric's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets: samples named `x_bucket` with label `le`, `x_sum` and `x_count`.
    Histogram,
}

/// A counter's name, what it counts, and where that stands.
type SourceCounter = (&'static str, &'static str, fn(&SourceCounts) -> u64);

/// What is counted of each source that is read.
const SOURCE_COUNTERS: [SourceCounter; 3] = [
    ("tidewater_source_rows_total", "Rows read from the source.", |read| read.rows),
    ("tidewater_source_bytes_total", "Bytes read from the source.", |read| read.bytes),
    (LATE_ROWS.0, LATE_ROWS.1, |read| read.late_rows),
];
/// Of sources and tables.
const LATE_ROWS: (&str, &str) = (
    "tidewater_source_late_rows_total",
    "Rows of the source or table that were left out because they came behind its watermark.",
);

/// Every sample, samples of a name together.
pub(crate) fn collect(shared: &Shared) -> Vec<Metric> {
    let catalog = shared.catalog();
    let names = catalog.objects().map(|object| (object.id, object.name.clone())).collect();
    let mut samples = Samples { metrics: Vec::new(), shared, names };
    let counters = &shared.counters;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    samples.counter("tidewater_statements_total", "Statements executed.", count(&counters.statements));
    samples.counter("tidewater_statement_failures_total", "Statements that failed.", count(&counters.failures));
    samples.counter("tidewater_table_updates_total", "Updates written to tables.", count(&counters.rows_written));
    samples.gauge("tidewater_closed_timestamp_ms", "The last closed time.", shared.runtime.closed() as f64);
    samples.gauge("tidewater_sessions", "Sessions that are open.", shared.sessions.lock().len() as f64);
    if let Some(bytes) = resident_bytes() {
        samples.gauge("tidewater_memory_bytes", "Memory of the process that is in use.", bytes as f64);
    }
    let sources = shared.readers.counts();
    for (name, help, value) in SOURCE_COUNTERS {
        for read in &sources {
            samples.object(MetricKind::Counter, name, help, read.source, value(read) as f64);
        }
    }
    for (table, late_rows) in shared.table_times.late_rows() {
        samples.object(MetricKind::Counter, LATE_ROWS.0, LATE_ROWS.1, table, late_rows as f64);
    }
    for (id, errors) in shared.decode_errors.counts() {
        let help = "Inputs of the source that did not decode.";
        samples.object(MetricKind::Counter, "tidewater_source_errors_total", help, id, errors as f64);
    }
    for relation in shared.runtime.relation_stats() {
        let help = "Rows that came in, insertions and deletions alike.";
        samples.object(
            MetricKind::Counter,
            "tidewater_rows_in_total",
            help,
            relation.relation,
            relation.rows_in as f64,
        );
    }
    let dataflows = shared.runtime.stats();
    for dataflow in &dataflows {
        samples.names.insert(dataflow.id, dataflow_name(&catalog, dataflow));
    }
    for dataflow in &dataflows {
        let help = "Updates of sources and tables that the object was given, history included.";
        samples.object(
            MetricKind::Counter,
            "tidewater_dataflow_rows_in_total",
            help,
            dataflow.id,
            dataflow.rows_in as f64,
        );
    }
    for dataflow in &dataflows {
        let help = "Updates that the object has put out, rows taken back included.";
        samples.object(
            MetricKind::Counter,
            "tidewater_dataflow_rows_out_total",
            help,
            dataflow.id,
            dataflow.rows_out as f64,
        );
    }
    for dataflow in &dataflows {
        let help = "How far the object's frontier is behind the last closed time, in milliseconds.";
        samples.object(MetricKind::Gauge, "tidewater_frontier_lag_ms", help, dataflow.id, dataflow.lag_ms as f64);
    }
    let arrangements =
        || dataflows.iter().flat_map(|dataflow| dataflow.operators.iter().map(move |o| (dataflow.id, o)));
    for (id, operator) in arrangements() {
        let help = "Updates in the arrangement.";
        samples.operator("tidewater_arrangement_rows", help, id, operator, operator.row_count as f64);
    }
    for (id, operator) in arrangements() {
        let help = "Memory of the arrangement.";
        samples.operator("tidewater_arrangement_bytes", help, id, operator, operator.size_bytes as f64);
    }
    samples.peeks();
    samples.metrics
}

/// The process's resident memory; None where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

struct Samples<'a> {
    metrics: Vec<Metric>,
    shared: &'a Shared,
    names: HashMap<ObjectId, String>,
}

impl Samples<'_> {
    fn push(&mut self, kind: MetricKind, name: &str, help: &'static str, labels: Vec<(String, String)>, value: f64) {
        self.metrics.push(Metric { name: name.to_string(), help, kind, labels, value });
    }

    fn counter(&mut self, name: &str, help: &'static str, value: f64) {
        self.push(MetricKind::Counter, name, help, Vec::new(), value);
    }

    fn gauge(&mut self, name: &str, help: &'static str, value: f64) {
        self.push(MetricKind::Gauge, name, help, Vec::new(), value);
    }

    fn object(&mut self, kind: MetricKind, name: &str, help: &'static str, id: ObjectId, value: f64) {
        let labels = self.labels(id);
        self.push(kind, name, help, labels, value);
    }

    fn operator(
        &mut self,
        name: &str,
        help: &'static str,
        id: ObjectId,
        operator: &dataflow::OperatorStats,
        value: f64,
    ) {
        let mut labels = self.labels(id);
        labels.push(("operator".to_string(), operator.name.clone()));
        self.push(MetricKind::Gauge, name, help, labels, value);
    }

    /// The id as well as the name: what has no name still has samples of its own.
    fn labels(&self, id: ObjectId) -> Vec<(String, String)> {
        let name = self.names.get(&id).cloned().unwrap_or_default();
        vec![("object".to_string(), name), ("id".to_string(), id.to_string())]
    }

    fn peeks(&mut self) {
        const NAME: &str = "tidewater_peek_seconds";
        const HELP: &str = "How long peeks took, from the call to the answer.";
        let latency = self.shared.runtime.peek_latency();
        let bucket = format!("{NAME}_bucket");
        for (bound, count) in &latency.buckets {
            let label = vec![("le".to_string(), bound.to_string())];
            self.push(MetricKind::Histogram, &bucket, HELP, label, *count as f64);
        }
        let label = vec![("le".to_string(), "+Inf".to_string())];
        self.push(MetricKind::Histogram, &bucket, HELP, label, latency.count as f64);
        self.push(MetricKind::Histogram, &format!("{NAME}_sum"), HELP, Vec::new(), latency.sum_seconds);
        self.push(MetricKind::Histogram, &format!("{NAME}_count"), HELP, Vec::new(), latency.count as f64);
    }
}
