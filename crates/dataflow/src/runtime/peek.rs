//! Peeks: an export read once, at one time, from every worker's share of it.
//!
//! A worker answers once the export is complete at the peek's time. A small share is read on the spot; a large one is handed,
//! as chunks and without a copy, to a scan thread, so that nobody's updates wait for it. The last part completes the answer.

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use plan::dataflow_plan::DataflowPlan;
use repr::hash::{KEY_SEED, ROW_SEED, hash_columns};
use repr::{Diff, Lane, ObjectId, PgError, Timestamp};
use tokio::sync::oneshot;

use super::snapshot::{self, Part, Share};
use super::timeline::Shared;
use crate::DataflowError;

/// A share of at most this many updates is read by the worker itself.
const INLINE_ROWS: usize = 16 * 1024;

/// What to read.
#[derive(Clone, Debug)]
pub struct PeekTarget {
    /// The dataflow whose export it is.
    pub dataflow: ObjectId,
    /// Only rows with these keys: one array for each column of the export's key, of that column's Arrow type, one element a
    /// key. NULL finds NULL, and floats are found as they hash (-0.0 with 0.0). None reads everything.
    pub keys: Option<Vec<ArrayRef>>,
}

/// Answers on their way.
#[derive(Debug)]
pub struct Peeked {
    /// The time they are all read at.
    pub as_of: Timestamp,
    /// One for each target, in order.
    pub answers: Vec<oneshot::Receiver<Result<PeekAnswer, PgError>>>,
}

/// The rows of an export at one time.
#[derive(Clone, Debug, Default)]
pub struct PeekAnswer {
    /// In no order, a row as often as it is there; columns `#0`, `#1`, .. None is empty.
    pub batches: Vec<RecordBatch>,
    /// Rows that failed, at that time, in the dataflow or in one that it imports from. The answer may lack what they would
    /// have given.
    pub error_count: usize,
}

/// Where the parts of one peek meet.
pub(crate) struct PeekCollector {
    shared: Arc<Shared>,
    plan: Arc<DataflowPlan>,
    keys: Option<Keys>,
    pub(crate) as_of: Timestamp,
    /// The dataflow itself and those it imports from.
    pub(crate) dependencies: Arc<[ObjectId]>,
    asked: Instant,
    state: Mutex<Collected>,
}

struct Collected {
    missing: usize,
    batches: Vec<RecordBatch>,
    sender: Option<oneshot::Sender<Result<PeekAnswer, PgError>>>,
}

/// The keys of a look-up as the arrangement knows them: (key hash, hash under the other seed).
struct Keys {
    hashes: Vec<u64>,
    identities: HashSet<(u64, u64)>,
}

/// One worker's part. Dropped unanswered, it answers that the worker is gone.
pub(crate) struct PeekPart {
    collector: Option<Arc<PeekCollector>>,
}

impl PeekCollector {
    /// Parts of it must be taken for every worker. Fails on keys that are not the export's.
    pub(crate) fn new(
        shared: Arc<Shared>,
        plan: Arc<DataflowPlan>,
        target: PeekTarget,
        as_of: Timestamp,
        dependencies: Arc<[ObjectId]>,
        sender: oneshot::Sender<Result<PeekAnswer, PgError>>,
    ) -> Option<Arc<PeekCollector>> {
        let keys = match target.keys.map(|keys| Keys::new(&plan, &keys)).transpose() {
            Ok(keys) => keys,
            Err(error) => {
                // Whoever asked may be gone already.
                let _ = sender.send(Err(error));
                return None;
            }
        };
        shared.errors.hold(as_of);
        let state = Collected { missing: shared.workers(), batches: Vec::new(), sender: Some(sender) };
        let asked = Instant::now();
        Some(Arc::new(PeekCollector { shared, plan, keys, as_of, dependencies, asked, state: Mutex::new(state) }))
    }

    pub(crate) fn part(self: &Arc<Self>) -> PeekPart {
        PeekPart { collector: Some(Arc::clone(self)) }
    }

    fn schema(&self) -> &SchemaRef {
        &self.plan.nodes[self.plan.export.node].schema
    }

    /// Reads one worker's share.
    fn read(&self, share: &Share) -> Result<Vec<RecordBatch>, PgError> {
        match &self.keys {
            None => {
                snapshot::read_all(share, self.as_of)?.into_iter().map(|part| expand(part, self.schema())).collect()
            }
            Some(keys) => {
                let parts = snapshot::read_keys(share, &keys.hashes, self.as_of)?;
                let batches = parts.into_iter().map(|part| expand(part, self.schema()));
                batches.map(|batch| keys.verify(batch?, &self.plan.export.key)).collect()
            }
        }
    }

    fn add(&self, part: Result<Vec<RecordBatch>, PgError>) {
        let mut state = self.state.lock();
        state.missing = state.missing.saturating_sub(1);
        match part {
            Ok(batches) => state.batches.extend(batches.into_iter().filter(|batch| batch.num_rows() > 0)),
            Err(error) => {
                if let Some(sender) = state.sender.take() {
                    // Whoever asked may be gone already.
                    let _ = sender.send(Err(error));
                }
            }
        }
        if state.missing == 0
            && let Some(sender) = state.sender.take()
        {
            let error_count = self.shared.errors.count_at(&self.dependencies, self.as_of);
            let answer = PeekAnswer { batches: std::mem::take(&mut state.batches), error_count };
            self.shared.peek_latency.record(self.asked.elapsed());
            let _ = sender.send(Ok(answer));
        }
    }
}

impl Drop for PeekCollector {
    fn drop(&mut self) {
        self.shared.errors.release(self.as_of);
    }
}

impl Keys {
    fn new(plan: &DataflowPlan, keys: &[ArrayRef]) -> Result<Keys, PgError> {
        let schema = &plan.nodes[plan.export.node].schema;
        let types_agree = keys.len() == plan.export.key.len()
            && !keys.is_empty()
            && keys
                .iter()
                .zip(&plan.export.key)
                .all(|(key, column)| key.data_type() == schema.field(*column).data_type())
            && keys.iter().all(|key| key.len() == keys[0].len());
        if !types_agree {
            return Err(PgError::internal(format!("look-up keys do not fit the key of \"{}\"", plan.name)));
        }
        let row_count = keys[0].len();
        let key_hashes = hash_columns(keys, row_count, KEY_SEED);
        let other_hashes = hash_columns(keys, row_count, ROW_SEED);
        let identities: HashSet<(u64, u64)> = key_hashes.iter().copied().zip(other_hashes).collect();
        let mut hashes = key_hashes;
        hashes.sort_unstable();
        hashes.dedup();
        Ok(Keys { hashes, identities })
    }

    /// Drops rows whose key only hashes like one that was asked for.
    fn verify(&self, batch: RecordBatch, key: &[usize]) -> Result<RecordBatch, PgError> {
        let columns: Vec<&ArrayRef> = key.iter().map(|column| batch.column(*column)).collect();
        let key_hashes = hash_columns(columns.iter().copied(), batch.num_rows(), KEY_SEED);
        let other_hashes = hash_columns(columns, batch.num_rows(), ROW_SEED);
        let wanted: Vec<bool> =
            key_hashes.into_iter().zip(other_hashes).map(|identity| self.identities.contains(&identity)).collect();
        if wanted.iter().all(|wanted| *wanted) {
            return Ok(batch);
        }
        filter_record_batch(&batch, &BooleanArray::from(wanted)).map_err(|error| PgError::internal(error.to_string()))
    }
}

impl PeekPart {
    pub(crate) fn dataflow(&self) -> Option<ObjectId> {
        self.collector.as_ref().map(|collector| collector.plan.id)
    }

    pub(crate) fn as_of(&self) -> Timestamp {
        self.collector.as_ref().map_or(0, |collector| collector.as_of)
    }

    pub(crate) fn dependencies(&self) -> Arc<[ObjectId]> {
        self.collector.as_ref().map_or_else(|| Vec::new().into(), |collector| collector.dependencies.clone())
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.collector
            .as_ref()
            .is_none_or(|collector| collector.state.lock().sender.as_ref().is_none_or(oneshot::Sender::is_closed))
    }

    /// Answers from this worker's share, here or on a scan thread.
    pub(crate) fn answer(mut self, share: Share) {
        let Some(collector) = &self.collector else { return };
        let is_small = collector.keys.is_some() || share.row_count() <= INLINE_ROWS;
        if is_small {
            let answer = collector.read(&share);
            self.complete(answer);
        } else {
            let shared = Arc::clone(&collector.shared);
            // Without a scan thread the part is dropped, which answers it.
            let _ = shared.scans.send(Scan { part: self, share });
        }
    }

    /// Answers with an error.
    pub(crate) fn fail(mut self, error: PgError) {
        self.complete(Err(error));
    }

    fn complete(&mut self, answer: Result<Vec<RecordBatch>, PgError>) {
        if let Some(collector) = self.collector.take() {
            collector.add(answer);
        }
    }
}

impl Drop for PeekPart {
    fn drop(&mut self) {
        if let Some(collector) = &self.collector {
            let error = collector.shared.lost();
            self.complete(Err(error));
        }
    }
}

/// A share that a scan thread reads.
pub(crate) struct Scan {
    part: PeekPart,
    share: Share,
}

/// What a scan thread does until the runtime is gone.
pub(crate) fn scan(scans: Receiver<Scan>) {
    for Scan { mut part, share } in scans {
        let Some(collector) = part.collector.clone() else { continue };
        if part.is_cancelled() {
            continue;
        }
        let answer = catch_unwind(AssertUnwindSafe(|| collector.read(&share)))
            .unwrap_or_else(|panic| Err(PgError::internal(format!("reading failed: {}", panic_message(&*panic)))));
        // The scan thread must not be the last to hold the runtime's state while it waits for more.
        drop(collector);
        part.complete(answer);
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_string())
}

/// Rows with counts as a batch of rows.
fn expand(part: Part, schema: &SchemaRef) -> Result<RecordBatch, PgError> {
    let (columns, row_count) = match part.counts {
        Lane::Constant(1, row_count) => (part.columns, row_count),
        counts => {
            let indices = repeat(&counts)?;
            let columns: Result<Vec<ArrayRef>, _> =
                part.columns.iter().map(|column| take(column.as_ref(), &indices, None)).collect();
            (columns.map_err(|error| PgError::internal(error.to_string()))?, indices.values().len())
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| PgError::internal(format!("an arrangement does not fit its plan: {error}")))
}

/// Each row's index as often as its count says; counts are positive.
fn repeat(counts: &Lane<Diff>) -> Result<UInt32Array, PgError> {
    let total: i128 = counts.iter().map(i128::from).sum();
    if total > i128::from(i32::MAX) {
        return Err(DataflowError::Plan(PgError::new(
            repr::SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("the answer holds a row {total} times"),
        ))
        .into());
    }
    let mut indices = Vec::with_capacity(total as usize);
    for (row, count) in counts.iter().enumerate() {
        indices.extend(std::iter::repeat_n(row as u32, count as usize));
    }
    Ok(UInt32Array::from(indices))
}
