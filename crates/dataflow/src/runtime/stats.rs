//! Figures for operators of the system: how far, how large, how fast.
//!
//! Sizes live with the workers' arrangements, so a collection asks every worker; counters are kept where they are counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use repr::{ObjectId, Timestamp};

/// One dataflow's figures.
#[derive(Clone, Debug)]
pub struct DataflowStats {
    /// Its plan's id.
    pub id: ObjectId,
    /// Its plan's name.
    pub name: String,
    /// The first time at which it can be read; it is hydrating while `frontier` is not beyond it.
    pub as_of: Timestamp,
    /// The earliest time at which it may still change; `Timestamp::MAX` if it never can.
    pub frontier: Timestamp,
    /// How far the frontier is behind what is closed, in milliseconds; 0 when it is up to date.
    pub lag_ms: u64,
    /// Updates of sources and tables that it was given, history included.
    pub rows_in: u64,
    /// Updates of its export: rows it has put out and taken back.
    pub rows_out: u64,
    /// Its arrangements, over all workers, in the plan's order.
    pub operators: Vec<OperatorStats>,
}

/// One arrangement's figures, summed over the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorStats {
    /// The plan's node.
    pub node: usize,
    /// What the operator is called.
    pub name: String,
    /// Updates held.
    pub row_count: usize,
    /// Memory held.
    pub size_bytes: usize,
    /// Batches they lie in.
    pub batch_count: usize,
}

/// One source's or table's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationStats {
    /// The relation.
    pub relation: ObjectId,
    /// Rows appended since the start, insertions and deletions alike.
    pub rows_in: u64,
}

/// How often something took how long.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyHistogram {
    /// Upper bounds in seconds, ascending, each with the number of times that were at most that long.
    pub buckets: Vec<(f64, u64)>,
    /// All of them.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_seconds: f64,
}

/// What workers know of one dataflow's size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) operators: Vec<OperatorStats>,
}

impl Measured {
    /// Adds another worker's share. All workers list the same arrangements in the same order.
    fn add(&mut self, other: Measured) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        if self.operators.is_empty() {
            self.operators = other.operators;
            return;
        }
        for (mine, theirs) in self.operators.iter_mut().zip(other.operators) {
            mine.row_count += theirs.row_count;
            mine.size_bytes += theirs.size_bytes;
            mine.batch_count += theirs.batch_count;
        }
    }
}

/// One collection of figures from all workers.
pub(crate) struct StatsCollector {
    state: Mutex<(HashMap<ObjectId, Measured>, usize)>,
    answered: Condvar,
}

/// One worker's part in a collection.
pub(crate) struct StatsPart {
    collector: Arc<StatsCollector>,
}

impl StatsCollector {
    pub(crate) fn new(workers: usize) -> Arc<StatsCollector> {
        Arc::new(StatsCollector { state: Mutex::new((HashMap::new(), workers)), answered: Condvar::new() })
    }

    pub(crate) fn part(self: &Arc<Self>) -> StatsPart {
        StatsPart { collector: Arc::clone(self) }
    }

    /// What all workers said; nothing if one of them was too slow, for half a sum would mislead.
    pub(crate) fn wait(&self, timeout: Duration) -> HashMap<ObjectId, Measured> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while state.1 > 0 {
            if self.answered.wait_until(&mut state, deadline).timed_out() {
                return HashMap::new();
            }
        }
        std::mem::take(&mut state.0)
    }
}

impl StatsPart {
    pub(crate) fn answer(self, measured: Vec<(ObjectId, Measured)>) {
        let mut state = self.collector.state.lock();
        for (id, measured) in measured {
            state.0.entry(id).or_default().add(measured);
        }
        state.1 -= 1;
        self.collector.answered.notify_all();
    }
}

/// Upper bounds of the peek latency histogram, in microseconds.
const BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 10_000_000];

/// Counts durations without a lock.
#[derive(Default)]
pub(crate) struct LatencyRecorder {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl LatencyRecorder {
    pub(crate) fn record(&self, elapsed: Duration) {
        let elapsed_us = elapsed.as_micros() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < elapsed_us);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(elapsed_us, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> LatencyHistogram {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_US.len());
        for (bound, bucket) in BOUNDS_US.iter().zip(&self.counts) {
            count += bucket.load(Ordering::Relaxed);
            buckets.push((*bound as f64 / 1e6, count));
        }
        count += self.counts[BOUNDS_US.len()].load(Ordering::Relaxed);
        LatencyHistogram { buckets, count, sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_is_open() {
        let recorder = LatencyRecorder::default();
        for elapsed_us in [100, 101, 20_000_000] {
            recorder.record(Duration::from_micros(elapsed_us));
        }
        let histogram = recorder.snapshot();
        assert_eq!(histogram.buckets[0], (0.0001, 1));
        assert_eq!(histogram.buckets[1], (0.00025, 2));
        assert_eq!(histogram.buckets.last(), Some(&(10.0, 2)));
        assert_eq!(histogram.count, 3);
    }

    #[test]
    fn a_collection_without_an_answer_gives_nothing() {
        let collector = StatsCollector::new(2);
        collector.part().answer(vec![(ObjectId(1), Measured { rows_in: 3, rows_out: 1, operators: Vec::new() })]);
        assert!(collector.wait(Duration::from_millis(1)).is_empty());
        collector.part().answer(vec![(ObjectId(1), Measured { rows_in: 4, rows_out: 1, operators: Vec::new() })]);
        assert_eq!(collector.wait(Duration::from_millis(1))[&ObjectId(1)].rows_in, 7);
    }
}
