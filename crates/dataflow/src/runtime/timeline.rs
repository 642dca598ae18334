//! The one timeline: which time is open, what has been read, which dataflows run and how far each has come.
//!
//! [`Timeline`] is the state and the decisions, [`Shared`] the state's lock together with the queues into the workers. A
//! method of `Shared` that queues commands takes the locked timeline as proof that the order of commands is the order of
//! decisions.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex, MutexGuard};
use plan::dataflow_plan::DataflowPlan;
use repr::source::Positions;
use repr::{ObjectId, PgError, SqlState, Timestamp};

use super::command::{Command, Rows};
use super::errors::ErrorRegistry;
use super::peek::{self, Scan};
use super::stats::{DataflowStats, LatencyRecorder, Measured, RelationStats};
use super::subscribe::Subscription;
use crate::DataflowError;
use crate::agenda::Agenda;

// Where rows are bounded, they are counted by their volume: see `Rows::volume`.

/// The open time is closed at this many rows even while dataflows lag.
const TICK_ROWS: usize = 256 * 1024;
/// A batch this large has more waiting behind it.
const LARGE_ROWS: usize = 8 * 1024;
/// While nothing but such batches come, the open time is closed at this many rows only ..
const CATCH_UP_ROWS: usize = 128 * 1024;
/// .. or after this long.
const CATCH_UP_WAIT: Duration = Duration::from_millis(100);
/// Source threads wait while this many rows are not yet worked in.
const IN_FLIGHT_ROWS: usize = 512 * 1024;
/// Writers wait while this many rows are not yet worked in.
const WRITTEN_ROWS: usize = 1024 * 1024;
/// Smaller batches are put together, as far as they come within one time.
const SMALL_ROWS: usize = 2048;
/// Larger batches are split into slices of this many rows, spread over the workers.
const PIECE_ROWS: usize = 16 * 1024;

/// What all handles, workers and pending requests share.
pub(crate) struct Shared {
    pub(crate) timeline: Mutex<Timeline>,
    senders: Vec<Sender<Command>>,
    /// Set by each worker when it starts; it looks at its queue before it first parks.
    pub(crate) threads: Vec<OnceLock<Thread>>,
    /// Signalled, with the timeline's lock, when a frontier has moved and someone waits.
    progressed: Condvar,
    waiters: AtomicUsize,
    /// Rows in the queues into the workers.
    queued_rows: AtomicUsize,
    /// A written time stays open until the dataflows have caught up: whoever moves a frontier sees to it.
    is_close_wanted: AtomicBool,
    pub(crate) errors: ErrorRegistry,
    /// When time has to pass even if nothing is written.
    pub(crate) agenda: Arc<Agenda>,
    pub(crate) subscriptions: Mutex<Vec<Arc<Subscription>>>,
    /// Large peeks on their way to the scan threads, which end with this sender.
    pub(crate) scans: Sender<Scan>,
    pub(crate) peek_latency: LatencyRecorder,
    /// Why a worker stopped.
    pub(crate) failure: Mutex<Option<String>>,
    failed: AtomicBool,
    /// Workers that have nothing left to answer before they stop.
    finished_workers: AtomicUsize,
}

/// See the module.
pub(crate) struct Timeline {
    /// Everything up to and including this time is complete in the inputs.
    pub(crate) closed: Timestamp,
    /// The time closed before that.
    previous: Timestamp,
    /// What the next rows are stamped with, once it was told to someone.
    open: Timestamp,
    /// The volume of rows stamped with `open`.
    open_rows: usize,
    /// Some of them are acknowledged writes, which the next read must see.
    open_is_written: bool,
    /// When the first of them came, while all of them are of large batches.
    catching_up: Option<Instant>,
    /// Relations with small batches that wait for the end of the open time; some may have been sent meanwhile.
    small: Vec<ObjectId>,
    /// Rows of closed times that some dataflow has still to work in.
    waiting: VecDeque<(Timestamp, usize)>,
    waiting_rows: usize,
    pub(crate) relations: HashMap<ObjectId, RelationState>,
    pub(crate) dataflows: BTreeMap<ObjectId, DataflowState>,
    /// How many of them have rows that come and go by themselves: a read has to be up to the clock then.
    temporal_dataflows: usize,
    pub(crate) shut_down: bool,
}

/// A source or table as the timeline sees it.
#[derive(Default)]
pub(crate) struct RelationState {
    /// How far it has been read.
    pub(crate) positions: Positions,
    /// How far its event time has come, as the dataflows were told.
    watermark: Option<i64>,
    /// Dataflows that read it directly.
    readers: usize,
    /// The columns that they read.
    wanted: BTreeSet<usize>,
    /// Rows appended, read or not.
    row_count: u64,
    /// Whose turn it is.
    turn: usize,
    /// Rows of the open time in batches too small to be sent one by one.
    small: Vec<Rows>,
    small_rows: usize,
}

/// A running dataflow as the timeline sees it.
pub(crate) struct DataflowState {
    pub(crate) as_of: Timestamp,
    /// Itself and all it imports from, directly or not.
    pub(crate) dependencies: Arc<[ObjectId]>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) plan: Arc<DataflowPlan>,
    /// What the workers last said of its size.
    measured: Measured,
}

/// How far each worker has brought one dataflow.
pub(crate) struct Progress {
    frontiers: Vec<AtomicU64>,
    ended: AtomicBool,
}

impl Progress {
    /// The earliest time that is not complete on every worker; `MAX` when nothing can change any more.
    pub(crate) fn frontier(&self) -> Timestamp {
        self.frontiers.iter().map(|frontier| frontier.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    pub(crate) fn advance(&self, worker: usize, frontier: Timestamp) {
        self.frontiers[worker].store(frontier, Ordering::Release);
    }

    /// Whether the dataflow was uninstalled.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl DataflowState {
    /// Whether it can be read as of a time, the last closed one being `closed`.
    pub(crate) fn check_readable(&self, as_of: Timestamp, closed: Timestamp) -> Result<(), PgError> {
        if as_of == closed {
            return Ok(());
        }
        if as_of > closed {
            let message = format!("time {as_of} has not come yet: it is {closed}");
            return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let since = self.as_of.max(closed.saturating_sub(self.plan.options.retain_history_ms));
        if as_of >= since {
            return Ok(());
        }
        Err(PgError::new(SqlState("72000"), format!("\"{}\" keeps no history of time {as_of}", self.plan.name))
            .with_detail(format!("It can be read from time {since} on."))
            .with_hint("WITH (RETAIN HISTORY FOR '1 hour') of a table or materialized view keeps more."))
    }
}

impl Timeline {
    fn new() -> Timeline {
        Timeline {
            closed: 0,
            previous: 0,
            open: 0,
            open_rows: 0,
            open_is_written: false,
            catching_up: None,
            small: Vec::new(),
            waiting: VecDeque::new(),
            waiting_rows: 0,
            relations: HashMap::new(),
            dataflows: BTreeMap::new(),
            temporal_dataflows: 0,
            shut_down: false,
        }
    }

    /// The time that rows are stamped with now. It follows the wall clock until rows carry it.
    pub(crate) fn open_time(&mut self) -> Timestamp {
        if self.open_rows == 0 {
            self.open = wall_clock_ms().max(self.closed + 1).max(self.open);
        }
        self.open
    }

    pub(crate) fn relation(&mut self, relation: ObjectId) -> &mut RelationState {
        self.relations.entry(relation).or_default()
    }

    /// The plan's own id and, transitively, those it imports from.
    pub(crate) fn dependencies(&self, plan: &DataflowPlan) -> Result<Arc<[ObjectId]>, DataflowError> {
        if self.dataflows.contains_key(&plan.id) {
            return Err(DataflowError::AlreadyInstalled(plan.id));
        }
        let mut dependencies = vec![plan.id];
        for import in plan.imports() {
            let imported = self.dataflows.get(&import).ok_or(DataflowError::UnknownDataflow(import))?;
            for id in imported.dependencies.iter() {
                if !dependencies.contains(id) {
                    dependencies.push(*id);
                }
            }
        }
        Ok(dependencies.into())
    }

    /// Notes a dataflow that is about to be installed on every worker.
    pub(crate) fn begin(
        &mut self,
        plan: &Arc<DataflowPlan>,
        as_of: Timestamp,
        dependencies: Arc<[ObjectId]>,
        workers: usize,
    ) -> Arc<Progress> {
        for relation in plan.sources() {
            let state = self.relation(relation);
            state.readers += 1;
            state.wanted.extend(plan.source_columns(relation));
        }
        let frontiers = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let progress = Arc::new(Progress { frontiers, ended: AtomicBool::new(false) });
        let state = DataflowState {
            as_of,
            dependencies,
            progress: Arc::clone(&progress),
            plan: Arc::clone(plan),
            measured: Measured::default(),
        };
        self.dataflows.insert(plan.id, state);
        self.temporal_dataflows += usize::from(plan.reads_clock());
        progress
    }

    /// Forgets a dataflow; false if it did not run.
    pub(crate) fn end(&mut self, id: ObjectId) -> bool {
        let Some(dataflow) = self.dataflows.remove(&id) else { return false };
        dataflow.progress.ended.store(true, Ordering::Release);
        self.temporal_dataflows -= usize::from(dataflow.plan.reads_clock());
        for relation in dataflow.plan.sources() {
            let others = self.dataflows.values().flat_map(|dataflow| dataflow.plan.source_columns(relation));
            let wanted = others.collect();
            let state = self.relation(relation);
            state.readers = state.readers.saturating_sub(1);
            state.wanted = wanted;
        }
        true
    }

    /// Whether rows with these columns have all that is read of the relation: a column that was not decoded is a `NullArray`.
    pub(crate) fn are_enough(&self, relation: ObjectId, columns: &[ArrayRef]) -> bool {
        let has = |column: &usize| columns.get(*column).is_some_and(|column| *column.data_type() != DataType::Null);
        self.relations.get(&relation).is_none_or(|relation| relation.wanted.iter().all(has))
    }

    /// The columns of the relation that some dataflow reads.
    pub(crate) fn wanted_columns(&self, relation: ObjectId) -> BTreeSet<usize> {
        self.relations.get(&relation).map(|relation| relation.wanted.clone()).unwrap_or_default()
    }

    /// The earliest time some dataflow still works on, leaving out those that have not caught up with their own start: a
    /// new view's hydration must neither slow the others down nor block the sources.
    fn settled_frontier(&self) -> Timestamp {
        let settled = self.dataflows.values().filter_map(|dataflow| {
            let frontier = dataflow.progress.frontier();
            (frontier > dataflow.as_of).then_some(frontier)
        });
        settled.min().unwrap_or(Timestamp::MAX)
    }

    /// Rows that were stamped but are not in every answer yet.
    fn in_flight_rows(&mut self) -> usize {
        let frontier = self.settled_frontier();
        while let Some((time, rows)) = self.waiting.front().copied()
            && time < frontier
        {
            self.waiting.pop_front();
            self.waiting_rows -= rows;
        }
        self.waiting_rows + self.open_rows
    }

    /// Whether there is something to close, and at most one closed time is still being worked in or rows get too many.
    /// `is_due`: rows come or go by themselves.
    fn is_tick_due(&self, is_due: bool) -> bool {
        let is_wanted = self.open_rows > 0 || self.open_is_written || is_due;
        // A source that is behind is only further behind if each of its batches is worked in by itself.
        let may_grow = self.open_rows < CATCH_UP_ROWS && !self.open_is_written;
        if may_grow && self.catching_up.is_some_and(|since| since.elapsed() < CATCH_UP_WAIT) {
            return false;
        }
        is_wanted && (self.open_rows >= TICK_ROWS || self.settled_frontier() > self.previous)
    }

    pub(crate) fn stats(&mut self, measured: HashMap<ObjectId, Measured>) -> Vec<DataflowStats> {
        for (id, measured) in measured {
            if let Some(dataflow) = self.dataflows.get_mut(&id) {
                dataflow.measured = measured;
            }
        }
        let closed = self.closed;
        let stats = self.dataflows.iter().map(|(id, dataflow)| {
            let frontier = dataflow.progress.frontier();
            DataflowStats {
                id: *id,
                name: dataflow.plan.name.clone(),
                as_of: dataflow.as_of,
                frontier,
                lag_ms: (closed + 1).saturating_sub(frontier),
                rows_in: dataflow.measured.rows_in,
                rows_out: dataflow.measured.rows_out,
                operators: dataflow.measured.operators.clone(),
            }
        });
        stats.collect()
    }

    pub(crate) fn relation_stats(&self) -> Vec<RelationStats> {
        let mut stats: Vec<RelationStats> = self
            .relations
            .iter()
            .map(|(relation, state)| RelationStats { relation: *relation, rows_in: state.row_count })
            .collect();
        stats.sort_by_key(|stats| stats.relation);
        stats
    }
}

impl Shared {
    /// The state, and each worker's end of its queue. Starts the scan threads, one a worker.
    pub(crate) fn new(workers: usize) -> Result<(Arc<Shared>, Vec<Receiver<Command>>), DataflowError> {
        let (senders, receivers) = (0..workers).map(|_| unbounded()).unzip();
        let (scans, waiting_scans) = unbounded();
        for index in 0..workers {
            let waiting_scans = waiting_scans.clone();
            thread::Builder::new()
                .name(format!("scan-{index}"))
                .spawn(move || peek::scan(waiting_scans))
                .map_err(|error| DataflowError::Failed(error.to_string()))?;
        }
        let shared = Shared {
            timeline: Mutex::new(Timeline::new()),
            senders,
            threads: (0..workers).map(|_| OnceLock::new()).collect(),
            progressed: Condvar::new(),
            waiters: AtomicUsize::new(0),
            queued_rows: AtomicUsize::new(0),
            is_close_wanted: AtomicBool::new(false),
            errors: ErrorRegistry::default(),
            agenda: Arc::default(),
            subscriptions: Mutex::new(Vec::new()),
            scans,
            peek_latency: LatencyRecorder::default(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            finished_workers: AtomicUsize::new(0),
        };
        Ok((Arc::new(shared), receivers))
    }

    pub(crate) fn workers(&self) -> usize {
        self.senders.len()
    }

    /// Queues a command for one worker. One that is gone drops it, and the parts of requests answer for themselves then.
    pub(crate) fn send(&self, _order: &Timeline, worker: usize, command: Command) {
        if self.senders[worker].send(command).is_ok()
            && let Some(thread) = self.threads[worker].get()
        {
            thread.unpark();
        }
    }

    /// Queues the same command for every worker.
    pub(crate) fn broadcast(&self, order: &Timeline, command: impl Fn() -> Command) {
        for worker in 0..self.workers() {
            self.send(order, worker, command());
        }
    }

    /// Adds rows to the open time. Small batches wait for its end or for each other: a container costs more than a row.
    pub(crate) fn append(&self, timeline: &mut Timeline, relation: ObjectId, rows: Rows) {
        let (row_count, volume) = (rows.row_count(), rows.volume());
        let state = timeline.relation(relation);
        state.row_count += row_count as u64;
        if state.readers == 0 || row_count == 0 {
            return;
        }
        if row_count < SMALL_ROWS {
            state.small_rows += row_count;
            state.small.push(rows);
            if state.small_rows >= SMALL_ROWS {
                self.send_small(timeline, relation);
            } else if timeline.relation(relation).small.len() == 1 {
                timeline.small.push(relation);
            }
        } else {
            self.send_rows(timeline, relation, rows);
        }
        if row_count < LARGE_ROWS {
            timeline.catching_up = None;
        } else if timeline.open_rows == 0 {
            timeline.catching_up = Some(Instant::now());
        }
        timeline.open_rows += volume;
    }

    /// See [`super::Runtime::advance_watermark`].
    pub(crate) fn advance_watermark(&self, timeline: &mut Timeline, relation: ObjectId, watermark: i64) {
        let state = timeline.relation(relation);
        if state.watermark.is_some_and(|last| last >= watermark) {
            return;
        }
        state.watermark = Some(watermark);
        let time = timeline.open_time();
        // It counts as a row, so that its time will be closed.
        timeline.open_rows += 1;
        self.broadcast(timeline, || Command::Watermark { relation, watermark, time });
    }

    /// Queues what waits of a relation, as one batch.
    fn send_small(&self, timeline: &mut Timeline, relation: ObjectId) {
        let state = timeline.relation(relation);
        state.small_rows = 0;
        for rows in Rows::concat(std::mem::take(&mut state.small)) {
            self.send_rows(timeline, relation, rows);
        }
    }

    /// Queues rows of the open time in pieces, each for the next worker in turn.
    fn send_rows(&self, timeline: &mut Timeline, relation: ObjectId, rows: Rows) {
        let (workers, time) = (self.workers(), timeline.open);
        let pieces = rows.split(PIECE_ROWS);
        self.queued_rows.fetch_add(pieces.iter().map(Rows::volume).sum(), Ordering::AcqRel);
        let state = timeline.relation(relation);
        let first_turn = state.turn;
        state.turn = (first_turn + pieces.len()) % workers;
        for (index, rows) in pieces.into_iter().enumerate() {
            self.send(timeline, (first_turn + index) % workers, Command::Append { relation, rows, time });
        }
    }

    /// Queues history for one dataflow; false once the dataflow has ended.
    pub(crate) fn append_backfill(
        &self,
        progress: &Progress,
        dataflow: ObjectId,
        relation: ObjectId,
        rows: Rows,
        epoch: Timestamp,
        turn: &mut usize,
    ) -> bool {
        let timeline = self.timeline.lock();
        if progress.ended() {
            return false;
        }
        for rows in rows.split(PIECE_ROWS) {
            self.queued_rows.fetch_add(rows.volume(), Ordering::AcqRel);
            *turn = (*turn + 1) % self.workers();
            self.send(&timeline, *turn, Command::BackfillAppend { dataflow, relation, rows, epoch });
        }
        true
    }

    /// Closes everything up to `time`, which is the open time.
    pub(crate) fn close(&self, timeline: &mut Timeline, time: Timestamp) {
        debug_assert!(time > timeline.closed && (timeline.open_rows == 0 || time >= timeline.open));
        for relation in std::mem::take(&mut timeline.small) {
            self.send_small(timeline, relation);
        }
        timeline.previous = timeline.closed;
        timeline.closed = time;
        self.agenda.pass(time);
        timeline.open_is_written = false;
        timeline.catching_up = None;
        if timeline.open_rows > 0 {
            timeline.waiting.push_back((time, timeline.open_rows));
            timeline.waiting_rows += timeline.open_rows;
            timeline.open_rows = 0;
            // Also bounds the list when nobody ever waits for capacity.
            timeline.in_flight_rows();
        }
        self.broadcast(timeline, || Command::Advance { closed: time });
    }

    /// See [`super::Runtime::write`].
    pub(crate) fn write(&self, writes: Vec<(ObjectId, Rows)>, watermarks: &[(ObjectId, i64)]) -> Timestamp {
        let mut timeline = self.timeline.lock();
        while timeline.in_flight_rows() >= WRITTEN_ROWS && !self.has_failed() && !timeline.shut_down {
            self.wait_progress(&mut timeline, Duration::from_millis(20));
        }
        let time = timeline.open_time();
        for (relation, rows) in writes {
            self.append(&mut timeline, relation, rows);
        }
        for (relation, watermark) in watermarks {
            self.advance_watermark(&mut timeline, *relation, *watermark);
        }
        timeline.open_is_written = true;
        // Wanted before the frontiers are looked at; a worker moves its frontier before it looks whether it is wanted.
        self.is_close_wanted.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.close_if_due(&mut timeline);
        time
    }

    fn close_if_due(&self, timeline: &mut Timeline) {
        let now = wall_clock_ms();
        if timeline.is_tick_due(now > timeline.closed && self.agenda.is_due(now)) {
            let time = timeline.open_time();
            self.close(timeline, time);
        }
        if !timeline.open_is_written {
            self.is_close_wanted.store(false, Ordering::SeqCst);
        }
    }

    /// See [`super::Runtime::caught_up`].
    pub(crate) fn caught_up(&self) {
        let mut timeline = self.timeline.lock();
        timeline.catching_up = None;
        self.close_if_due(&mut timeline);
    }

    /// Closes the open time if a read must see it, or asks for a time `at` that the clock has reached; returns the last closed
    /// time.
    pub(crate) fn readable_time(&self, timeline: &mut Timeline, at: Option<Timestamp>) -> Timestamp {
        let now = wall_clock_ms();
        let is_asked_for = at.is_some_and(|at| at > timeline.closed && at <= now);
        let is_behind = is_asked_for || (timeline.temporal_dataflows > 0 && now > timeline.closed);
        if timeline.open_is_written || is_behind {
            let time = timeline.open_time();
            self.close(timeline, time);
        }
        timeline.closed
    }

    /// See [`super::Runtime::tick_if_due`].
    pub(crate) fn tick_if_due(&self) {
        self.close_if_due(&mut self.timeline.lock());
        self.subscriptions.lock().retain(|subscription| subscription.flush());
    }

    /// See [`super::Runtime::wait_capacity`].
    pub(crate) fn wait_capacity(&self, relation: ObjectId) {
        let mut timeline = self.timeline.lock();
        while !self.has_failed() && !timeline.shut_down {
            let is_read = timeline.relations.get(&relation).is_some_and(|relation| relation.readers > 0);
            let in_flight_rows = timeline.in_flight_rows();
            if !is_read || (in_flight_rows < IN_FLIGHT_ROWS && !self.is_queue_full()) {
                return;
            }
            // The rows that fill the bound may all be in the open time, and the timer may be slow.
            self.close_if_due(&mut timeline);
            self.wait_progress(&mut timeline, Duration::from_millis(20));
        }
    }

    /// Blocks a backfill while the workers' queues are full; false when it must stop.
    pub(crate) fn wait_queue(&self, progress: &Progress) -> bool {
        let mut timeline = self.timeline.lock();
        loop {
            if self.has_failed() || timeline.shut_down || progress.ended() {
                return false;
            }
            if !self.is_queue_full() {
                return true;
            }
            self.wait_progress(&mut timeline, Duration::from_millis(20));
        }
    }

    /// See [`super::Runtime::wait_until`].
    pub(crate) fn wait_until(&self, id: ObjectId, time: Timestamp, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut timeline = self.timeline.lock();
        loop {
            let Some(dataflow) = timeline.dataflows.get(&id) else { return false };
            if dataflow.progress.frontier() > time {
                return true;
            }
            let now = Instant::now();
            if now >= deadline || self.has_failed() || timeline.shut_down {
                return false;
            }
            self.wait_progress(&mut timeline, (deadline - now).min(Duration::from_millis(20)));
        }
    }

    fn wait_progress(&self, timeline: &mut MutexGuard<'_, Timeline>, timeout: Duration) {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        self.progressed.wait_for(timeline, timeout);
        self.waiters.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_queue_full(&self) -> bool {
        self.queued_rows.load(Ordering::Acquire) >= IN_FLIGHT_ROWS
    }

    /// A worker took rows from its queue.
    pub(crate) fn took_rows(&self, volume: usize) {
        self.queued_rows.fetch_sub(volume, Ordering::AcqRel);
    }

    /// A worker has moved a frontier or emptied its queue. Closes what waited for that. Waiters look again; one that began to
    /// wait a moment ago and is missed here looks by itself soon.
    pub(crate) fn notify_progress(&self) {
        fence(Ordering::SeqCst);
        if self.is_close_wanted.load(Ordering::SeqCst) {
            self.close_if_due(&mut self.timeline.lock());
        }
        if self.waiters.load(Ordering::Acquire) > 0 {
            self.progressed.notify_all();
        }
    }

    /// Notes that a worker panicked; every waiter gives up.
    pub(crate) fn fail(&self, message: String) {
        self.failure.lock().get_or_insert(message);
        self.failed.store(true, Ordering::Release);
        self.progressed.notify_all();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// What a request gets whose worker will not answer any more.
    pub(crate) fn lost(&self) -> PgError {
        match self.failure.lock().clone() {
            Some(message) => DataflowError::Failed(message).into(),
            None => DataflowError::Stopped.into(),
        }
    }

    /// A worker that was told to stop has nothing left to answer.
    pub(crate) fn finished(&self) {
        self.finished_workers.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn have_all_finished(&self) -> bool {
        self.finished_workers.load(Ordering::Acquire) >= self.workers()
    }

    /// Tells every worker to stop after what is queued.
    pub(crate) fn request_shutdown(&self) {
        let mut timeline = self.timeline.lock();
        if !timeline.shut_down {
            timeline.shut_down = true;
            self.broadcast(&timeline, || Command::Shutdown);
        }
        self.progressed.notify_all();
    }
}

fn wall_clock_ms() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as Timestamp)
}
