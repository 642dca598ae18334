//! Subscriptions: an export followed update by update, in order of time.
//!
//! Each worker listens to the batches that its share of the export's trace takes in, and delivers them here with its frontier.
//! Once all workers are beyond a time, its updates and then a `Progress` go into the subscriber's bounded channel. What does
//! not fit waits in a backlog, which the next delivery or the runtime's timer moves on; a backlog that grows without end
//! fails the subscription rather than the server.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::UInt32Array;
use differential_dataflow::operators::arrange::TraceReplayInstruction;
use parking_lot::Mutex;
use repr::{Lane, ObjectId, PgError, SqlState, Timestamp, UpdateBatch};
use timely::scheduling::Activator;
use tokio::sync::mpsc;

use super::snapshot::{self, Share};
use super::timeline::Shared;
use crate::arrange::{Batch, Spine, Trace};
use crate::chunk::ArrowChunk;
use crate::updates::{take_lane, take_rows};

/// Events that wait in the channel itself.
const CHANNEL_EVENTS: usize = 256;
/// Updates that may wait in the backlog, beyond the snapshot.
const BACKLOG_ROWS: usize = 1024 * 1024;

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum SubscribeEvent {
    /// Updates of one time, consolidated; a time may take several of them, first those that retract.
    Updates(UpdateBatch),
    /// Every update before this time has been told. `Timestamp::MAX`, and then the channel's end, where nothing can change
    /// any more.
    Progress(Timestamp),
    /// The subscription has ended early. The last event.
    Failed(PgError),
}

/// Where the parts of one subscription meet.
pub(crate) struct Subscription {
    state: Mutex<Delivery>,
}

struct Delivery {
    /// None once it has ended.
    sender: Option<mpsc::Sender<SubscribeEvent>>,
    /// How far each worker has delivered.
    frontiers: Vec<Timestamp>,
    /// The last `Progress`.
    told: Timestamp,
    /// Delivered updates of times that some worker has not completed.
    pending: BTreeMap<Timestamp, Vec<UpdateBatch>>,
    backlog: VecDeque<SubscribeEvent>,
    backlog_rows: usize,
    allowed_rows: usize,
    /// Nothing follows the backlog.
    ends: bool,
}

impl Subscription {
    pub(crate) fn new(workers: usize) -> (Arc<Subscription>, mpsc::Receiver<SubscribeEvent>) {
        let (sender, receiver) = mpsc::channel(CHANNEL_EVENTS);
        let state = Delivery {
            sender: Some(sender),
            frontiers: vec![0; workers],
            told: 0,
            pending: BTreeMap::new(),
            backlog: VecDeque::new(),
            backlog_rows: 0,
            allowed_rows: BACKLOG_ROWS,
            ends: false,
        };
        (Arc::new(Subscription { state: Mutex::new(state) }), receiver)
    }

    pub(crate) fn part(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        worker: usize,
        dataflow: ObjectId,
        as_of: Timestamp,
        snapshot: bool,
    ) -> SubscribePart {
        let (subscription, shared) = (Some(Arc::clone(self)), Arc::clone(shared));
        SubscribePart { subscription, shared, worker, dataflow, as_of, snapshot }
    }

    /// Ends it with an error, after what already waits for the subscriber.
    pub(crate) fn fail(&self, error: PgError) {
        self.state.lock().fail(error);
    }

    /// Moves the backlog on; false once the subscription is over.
    pub(crate) fn flush(&self) -> bool {
        self.state.lock().flush()
    }

    fn deliver(&self, worker: usize, updates: Vec<UpdateBatch>, frontier: Timestamp, is_snapshot: bool) -> bool {
        let mut delivery = self.state.lock();
        for batch in updates {
            if is_snapshot {
                delivery.allowed_rows += batch.row_count();
            }
            // Every batch of a delivery has one time.
            delivery.pending.entry(batch.times.get(0)).or_default().push(batch);
        }
        delivery.frontiers[worker] = frontier;
        delivery.tell_complete();
        delivery.flush()
    }
}

impl Delivery {
    /// Puts into the backlog what all workers have completed.
    fn tell_complete(&mut self) {
        let frontier = self.frontiers.iter().copied().min().unwrap_or(Timestamp::MAX);
        if frontier <= self.told || self.ends {
            return;
        }
        while let Some(time) = self.pending.first_entry()
            && *time.key() < frontier
        {
            for batch in retractions_first(time.remove()) {
                self.backlog_rows += batch.row_count();
                self.backlog.push_back(SubscribeEvent::Updates(batch));
            }
        }
        if let Some(SubscribeEvent::Progress(_)) = self.backlog.back() {
            self.backlog.pop_back();
        }
        self.backlog.push_back(SubscribeEvent::Progress(frontier));
        self.told = frontier;
        self.ends = frontier == Timestamp::MAX;
    }

    fn flush(&mut self) -> bool {
        let Some(sender) = &self.sender else { return false };
        while let Some(event) = self.backlog.pop_front() {
            let row_count = if let SubscribeEvent::Updates(batch) = &event { batch.row_count() } else { 0 };
            match sender.try_send(event) {
                Ok(()) => self.backlog_rows -= row_count,
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.backlog.push_front(event);
                    break;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.end();
                    return false;
                }
            }
        }
        if self.backlog_rows > self.allowed_rows {
            self.backlog.clear();
            self.backlog_rows = 0;
            self.fail(
                PgError::new(SqlState("53400"), "subscription fell behind")
                    .with_detail("More updates wait for the subscriber than the server keeps."),
            );
            return self.sender.is_some();
        }
        if sender.is_closed() || (self.ends && self.backlog.is_empty()) {
            self.end();
            return false;
        }
        true
    }

    fn fail(&mut self, error: PgError) {
        if self.ends || self.sender.is_none() {
            return;
        }
        self.ends = true;
        self.pending.clear();
        self.backlog.push_back(SubscribeEvent::Failed(error));
        self.flush();
    }

    fn end(&mut self) {
        self.sender = None;
        self.pending.clear();
        self.backlog.clear();
        self.backlog_rows = 0;
    }
}

/// One worker's part. Dropped before its end, it tells the subscriber that the worker is gone.
pub(crate) struct SubscribePart {
    subscription: Option<Arc<Subscription>>,
    shared: Arc<Shared>,
    worker: usize,
    pub(crate) dataflow: ObjectId,
    as_of: Timestamp,
    snapshot: bool,
}

impl SubscribePart {
    fn deliver(&self, updates: Vec<UpdateBatch>, frontier: Timestamp, is_snapshot: bool) -> bool {
        let Some(subscription) = &self.subscription else { return false };
        subscription.deliver(self.worker, updates, frontier, is_snapshot)
    }

    /// Ends the subscription with an error.
    pub(crate) fn fail(mut self, error: PgError) {
        if let Some(subscription) = self.subscription.take() {
            subscription.fail(error);
        }
    }

    /// Leaves a subscription that has ended.
    fn leave(mut self) {
        self.subscription = None;
    }
}

impl Drop for SubscribePart {
    fn drop(&mut self) {
        if let Some(subscription) = &self.subscription {
            subscription.fail(self.shared.lost());
        }
    }
}

/// A worker's listening for one subscription.
pub(crate) struct Listener {
    part: SubscribePart,
    queue: Rc<(Activator, std::cell::RefCell<VecDeque<TraceReplayInstruction<Spine>>>)>,
    /// Batches not yet delivered.
    batches: Vec<Batch>,
    frontier: Timestamp,
    started: bool,
}

impl Listener {
    /// Listens to all that the trace holds and will take in. Its history stays readable at `as_of` whatever compaction does,
    /// because batches never change.
    pub(crate) fn new(part: SubscribePart, trace: &mut Trace, activator: Activator) -> Listener {
        let queue = trace.new_listener(activator);
        Listener { part, queue, batches: Vec::new(), frontier: 0, started: false }
    }

    pub(crate) fn dataflow(&self) -> ObjectId {
        self.part.dataflow
    }

    pub(crate) fn fail(self, error: PgError) {
        self.part.fail(error);
    }

    /// Ends without a word, once [`Listener::deliver`] has said that nobody listens.
    pub(crate) fn leave(self) {
        self.part.leave();
    }

    /// Delivers what has come; false once nobody listens any more.
    pub(crate) fn deliver(&mut self) -> Result<bool, PgError> {
        let before = self.frontier;
        for instruction in self.queue.1.borrow_mut().drain(..) {
            match instruction {
                TraceReplayInstruction::Span(span, _) => self.batches.extend(span.inner),
                TraceReplayInstruction::Frontier(frontier) => {
                    self.frontier = frontier.elements().first().copied().unwrap_or(Timestamp::MAX);
                }
            }
        }
        if self.frontier <= self.part.as_of || self.frontier == before {
            return Ok(true);
        }
        if !self.started {
            self.started = true;
            let snapshot = if self.part.snapshot { self.snapshot()? } else { Vec::new() };
            // The frontier stays below the updates that follow, so that they are told apart.
            if !self.part.deliver(snapshot, self.part.as_of, true) {
                return Ok(false);
            }
        }
        let mut updates = Vec::new();
        for batch in self.batches.drain(..) {
            for chunk in &batch.chunks {
                by_time(chunk, self.part.as_of, &mut updates);
            }
        }
        Ok(self.part.deliver(updates, self.frontier, false))
    }

    fn snapshot(&self) -> Result<Vec<UpdateBatch>, PgError> {
        let parts = snapshot::read_all(&Share::of_batches(&self.batches), self.part.as_of)?;
        let batch = |part: snapshot::Part| UpdateBatch {
            times: Lane::Constant(self.part.as_of, part.counts.len()),
            diffs: part.counts,
            columns: part.columns,
        };
        Ok(parts.into_iter().map(batch).collect())
    }
}

/// The batches of one time such that what it takes away comes before what it adds: a client that keeps rows by their key
/// never has two of a key, and never removes the new one.
fn retractions_first(batches: Vec<UpdateBatch>) -> Vec<UpdateBatch> {
    let (mut ordered, mut added) = (Vec::with_capacity(batches.len()), Vec::with_capacity(batches.len()));
    for batch in batches {
        let (away, new): (Vec<u32>, Vec<u32>) =
            (0..batch.row_count() as u32).partition(|row| batch.diffs.get(*row as usize) < 0);
        match (away.is_empty(), new.is_empty()) {
            (true, _) => added.push(batch),
            (false, true) => ordered.push(batch),
            (false, false) => {
                ordered.push(take(&batch, away));
                added.push(take(&batch, new));
            }
        }
    }
    ordered.append(&mut added);
    ordered
}

/// Some rows of a batch.
fn take(batch: &UpdateBatch, rows: Vec<u32>) -> UpdateBatch {
    let (times, diffs) = (take_lane(&batch.times, &rows), take_lane(&batch.diffs, &rows));
    let rows = UInt32Array::from(rows);
    UpdateBatch { columns: batch.columns.iter().map(|column| take_rows(column, &rows)).collect(), times, diffs }
}

/// The updates of a chunk after `after`, in batches of one time each, in order of time.
fn by_time(chunk: &ArrowChunk, after: Timestamp, batches: &mut Vec<UpdateBatch>) {
    match chunk.times() {
        Lane::Constant(time, len) => {
            if time > after && len > 0 {
                let times = Lane::Constant(time, len);
                batches.push(UpdateBatch { columns: chunk.columns(), times, diffs: chunk.diffs() });
            }
        }
        Lane::Values(times) => {
            let mut rows: BTreeMap<Timestamp, Vec<u32>> = BTreeMap::new();
            for (row, time) in times.into_iter().enumerate().filter(|(_, time)| *time > after) {
                rows.entry(time).or_default().push(row as u32);
            }
            let (columns, diffs) = (chunk.columns(), chunk.diffs());
            for (time, rows) in rows {
                let diffs = take_lane(&diffs, &rows);
                let times = Lane::Constant(time, rows.len());
                let rows = UInt32Array::from(rows);
                let columns = columns.iter().map(|column| take_rows(column, &rows)).collect();
                batches.push(UpdateBatch { columns, times, diffs });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(time: Timestamp, values: &[i64]) -> UpdateBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        UpdateBatch::constant(vec![column], values.len(), time, 1)
    }

    fn tell(receiver: &mut mpsc::Receiver<SubscribeEvent>) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            told.push(match event {
                SubscribeEvent::Updates(batch) => format!("{}x{}", batch.times.get(0), batch.row_count()),
                SubscribeEvent::Progress(time) => format!("<{time}"),
                SubscribeEvent::Failed(error) => error.state.0.to_string(),
            });
        }
        told
    }

    #[test]
    fn a_time_is_told_once_every_worker_has_completed_it() {
        let (subscription, mut receiver) = Subscription::new(2);
        assert!(subscription.deliver(0, vec![batch(6, &[1]), batch(5, &[1, 2])], 7, false));
        assert!(tell(&mut receiver).is_empty());
        assert!(subscription.deliver(1, vec![batch(5, &[3])], 6, false));
        assert_eq!(tell(&mut receiver), ["5x2", "5x1", "<6"]);
        assert!(subscription.deliver(1, vec![], 7, false));
        assert_eq!(tell(&mut receiver), ["6x1", "<7"]);
    }

    #[test]
    fn what_a_time_takes_away_comes_first() {
        let (subscription, mut receiver) = Subscription::new(1);
        let mixed = UpdateBatch { diffs: Lane::Values(vec![1, -1, 1]), ..batch(5, &[1, 2, 3]) };
        let away = UpdateBatch { diffs: Lane::Constant(-1, 1), ..batch(5, &[4]) };
        assert!(subscription.deliver(0, vec![mixed, away], 6, false));
        let mut told = Vec::new();
        while let Ok(SubscribeEvent::Updates(batch)) = receiver.try_recv() {
            let values = batch.columns[0].as_primitive::<Int64Type>();
            told.extend((0..batch.row_count()).map(|row| (values.value(row), batch.diffs.get(row))));
        }
        assert_eq!(told, [(2, -1), (4, -1), (1, 1), (3, 1)]);
    }

    #[test]
    fn a_slow_subscriber_catches_up_from_the_backlog() {
        let (subscription, mut receiver) = Subscription::new(1);
        for time in 1..=1000 {
            assert!(subscription.deliver(0, vec![batch(time, &[1])], time + 1, false));
        }
        let mut told = tell(&mut receiver);
        while subscription.flush() && told.last().is_none_or(|last| last != "<1001") {
            told.extend(tell(&mut receiver));
        }
        assert_eq!(told.iter().filter(|event| !event.starts_with('<')).count(), 1000);
    }

    #[test]
    fn one_that_falls_behind_is_told_so_and_dropped() {
        let (subscription, mut receiver) = Subscription::new(1);
        let values = vec![0; 8192];
        for time in 1..=1000 {
            subscription.deliver(0, vec![batch(time, &values)], time + 1, false);
        }
        tell(&mut receiver);
        subscription.flush();
        assert_eq!(tell(&mut receiver), ["53400"]);
        assert!(!subscription.flush());
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn nobody_listening_ends_it() {
        let (subscription, receiver) = Subscription::new(1);
        drop(receiver);
        assert!(!subscription.deliver(0, vec![], 7, false));
    }
}
