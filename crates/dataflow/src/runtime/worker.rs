//! A worker: one thread that runs every dataflow's share of the data.
//!
//! Its loop takes commands in their order, steps timely once, publishes how far each dataflow has come, and serves the peeks
//! and subscriptions that have become answerable; with nothing left to do it parks until a command or another worker wakes
//! it. Everything here is single threaded but for what `Shared` holds.
//!
//! A panic anywhere in it ends the worker. Parts of requests that it still holds answer for themselves as they are dropped,
//! those in its queue too, and the runtime is marked as failed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use differential_dataflow::operators::arrange::TraceReplayInstruction;
use differential_dataflow::trace::{ExertionLogic, TraceReader};
use parking_lot::Mutex;
use plan::dataflow_plan::DataflowPlan;
use repr::{Lane, ObjectId, PgError, SqlState, Timestamp};
use timely::WorkerConfig;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator as _;
use timely::dataflow::operators::{Concat, Probe};
use timely::dataflow::{InputHandle, ProbeHandle, Stream};
use timely::progress::frontier::AntichainRef;
use timely::scheduling::Activator;
use timely::worker::Worker as TimelyWorker;

use super::command::{Command, Rows};
use super::peek::{self, PeekPart};
use super::snapshot::Share;
use super::stats::{Measured, OperatorStats};
use super::subscribe::{Listener, SubscribePart};
use super::timeline::{Progress, Shared};
use crate::DataflowError;
use crate::arrange::{ArrangementHandle, Spine, Trace};
use crate::errors::ErrorUpdates;
use crate::render::{self, Clock};
use crate::updates::Updates;
use crate::watermark::WatermarkCourse;

/// Rows taken from the queue before the dataflows get to work on them.
const DRAIN_ROWS: usize = 128 * 1024;
/// How long a worker polls before it parks: a wake-up costs more than most commands.
const IDLE_SPIN: Duration = Duration::from_micros(20);
/// Rows that an idle worker merges at once; a command that comes meanwhile waits that long.
const IDLE_MERGE_EFFORT: usize = 4096;
/// How long a shutdown waits for pending answers.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// The running threads. Dropped, they are joined: ask them to stop first.
pub(crate) struct Threads {
    _workers: timely::communication::WorkerGuards<()>,
}

/// Starts one thread for each of `receivers`.
pub(crate) fn start(shared: &Arc<Shared>, receivers: Vec<Receiver<Command>>) -> Result<Threads, DataflowError> {
    let mut config =
        if receivers.len() == 1 { timely::Config::thread() } else { timely::Config::process(receivers.len()) };
    config.worker = WorkerConfig::default().idle_spin(IDLE_SPIN);
    // An idle worker finishes the merges that are under way, which makes reads cheaper and costs nothing that would not be
    // spent anyway. It begins none: differential's own logic would merge down to one batch after every single write.
    let is_merging = |layers: &[(usize, usize, usize)]| layers.iter().any(|(_, batch_count, _)| *batch_count > 1);
    let logic: ExertionLogic = Arc::new(move |layers| is_merging(layers).then_some(IDLE_MERGE_EFFORT));
    config.worker.set("differential/default_exert_logic".to_owned(), logic);
    let receivers: Mutex<Vec<Option<Receiver<Command>>>> = Mutex::new(receivers.into_iter().map(Some).collect());
    let shared = Arc::clone(shared);
    let workers = timely::execute(config, move |timely: &mut TimelyWorker| {
        let index = timely.index();
        let Some(receiver) = receivers.lock()[index].take() else { return };
        // A second registration cannot happen: the receiver was taken once.
        let _ = shared.threads[index].set(std::thread::current());
        let mut worker = Worker::new(timely, Arc::clone(&shared), receiver);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run())) {
            let message = peek::panic_message(&*panic);
            tracing::error!(worker = index, %message, "dataflow worker panicked");
            shared.fail(message);
        }
        drop(worker);
        // What timely still runs would keep the thread for ever. A broken dataflow may panic once more as it goes.
        for dataflow in timely.installed_dataflows() {
            let dropped = catch_unwind(AssertUnwindSafe(|| timely.drop_dataflow(dataflow)));
            if dropped.is_err() {
                tracing::error!(worker = index, dataflow, "dataflow panicked while it was dropped");
            }
        }
    })
    .map_err(DataflowError::Failed)?;
    Ok(Threads { _workers: workers })
}

type Input = InputHandle<Timestamp, NoopBuilder<Updates>>;
type SpanQueue = Rc<(Activator, RefCell<VecDeque<TraceReplayInstruction<Spine>>>)>;

struct Worker<'a> {
    timely: &'a mut TimelyWorker,
    shared: Arc<Shared>,
    receiver: Receiver<Command>,
    /// The last closed time.
    closed: Timestamp,
    /// Live inputs, by relation and by the dataflow that reads it.
    inputs: HashMap<ObjectId, Vec<(ObjectId, Input)>>,
    /// How far the sources' event time has come.
    watermarks: HashMap<ObjectId, WatermarkCourse>,
    /// Inputs of histories, by dataflow and relation.
    backfills: HashMap<(ObjectId, ObjectId), Input>,
    dataflows: BTreeMap<ObjectId, Dataflow>,
    peeks: Vec<PendingPeek>,
    listeners: Vec<Listener>,
    is_stopping: bool,
}

/// A running dataflow on this worker.
struct Dataflow {
    /// Timely's number for it.
    index: usize,
    /// The export; it holds compaction at the last closed time, or as long before as history is kept.
    trace: Trace,
    retain_history_ms: u64,
    /// What the export's trace tells of its progress and of its batches, which are only counted here.
    sealed: SpanQueue,
    /// The export's frontier on this worker.
    upper: Timestamp,
    /// Frontier of the errors, of all workers.
    errors_probe: ProbeHandle<Timestamp>,
    /// Errors that have come since the last publication.
    errors: Rc<RefCell<ErrorUpdates>>,
    /// What was last published: rows and errors of earlier times are complete.
    frontier: Timestamp,
    progress: Arc<Progress>,
    arrangements: Vec<ArrangementHandle>,
    rows_in: u64,
    rows_out: u64,
}

/// A peek that waits for its dataflow.
struct PendingPeek {
    part: PeekPart,
    dependencies: Arc<[ObjectId]>,
    as_of: Timestamp,
    /// Keeps the export readable at `as_of`.
    trace: Trace,
}

impl<'a> Worker<'a> {
    fn new(timely: &'a mut TimelyWorker, shared: Arc<Shared>, receiver: Receiver<Command>) -> Worker<'a> {
        Worker {
            timely,
            shared,
            receiver,
            closed: 0,
            inputs: HashMap::new(),
            watermarks: HashMap::new(),
            backfills: HashMap::new(),
            dataflows: BTreeMap::new(),
            peeks: Vec::new(),
            listeners: Vec::new(),
            is_stopping: false,
        }
    }

    fn run(&mut self) {
        while !self.is_stopping {
            let is_busy = self.take_commands();
            self.timely.step_or_park(if is_busy { Some(Duration::ZERO) } else { None });
            self.serve();
        }
        self.finish();
    }

    /// Goes on until every worker has answered what was asked of it: each may need the others for that.
    fn finish(&mut self) {
        let deadline = Instant::now() + SHUTDOWN_PATIENCE;
        let mut is_done = false;
        while !self.shared.have_all_finished() && Instant::now() < deadline && !self.shared.has_failed() {
            self.serve();
            if self.peeks.is_empty() && !is_done {
                is_done = true;
                self.shared.finished();
            }
            self.timely.step_or_park(Some(Duration::from_millis(1)));
        }
    }

    /// Takes commands until there are none, or enough rows have come; false if there were none.
    fn take_commands(&mut self) -> bool {
        let mut volume = 0;
        let mut is_busy = false;
        while volume < DRAIN_ROWS && !self.is_stopping {
            match self.receiver.try_recv() {
                Ok(command) => {
                    is_busy = true;
                    volume += self.take(command);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.is_stopping = true,
            }
        }
        if volume > 0 {
            self.shared.took_rows(volume);
            self.shared.notify_progress();
        }
        is_busy
    }

    /// Follows one command; returns the volume of the rows it brought.
    fn take(&mut self, command: Command) -> usize {
        match command {
            Command::Append { relation, rows, time } => return self.append(relation, rows, time),
            Command::Advance { closed } => self.advance(closed),
            Command::Watermark { relation, watermark, time } => {
                self.watermarks.entry(relation).or_default().advance(watermark, time);
            }
            Command::Install { plan, as_of, backfilled, progress } => self.install(plan, as_of, &backfilled, progress),
            Command::Uninstall { id } => self.uninstall(id),
            Command::BackfillAppend { dataflow, relation, rows, epoch } => {
                return self.append_backfill(dataflow, relation, rows, epoch);
            }
            Command::BackfillAdvance { dataflow, relation, epoch: Some(epoch) } => {
                if let Some(input) = self.backfills.get_mut(&(dataflow, relation)) {
                    input.advance_to(epoch);
                }
            }
            Command::BackfillAdvance { dataflow, relation, epoch: None } => {
                self.backfills.remove(&(dataflow, relation));
            }
            Command::Peek(part) => self.peek(part),
            Command::Subscribe(part) => self.subscribe(part),
            Command::Stats(part) => part.answer(self.measure()),
            Command::Shutdown => self.is_stopping = true,
        }
        0
    }

    fn append(&mut self, relation: ObjectId, rows: Rows, time: Timestamp) -> usize {
        let (row_count, volume) = (rows.row_count(), rows.volume());
        let inputs = self.inputs.get_mut(&relation).map(Vec::as_mut_slice).unwrap_or_default();
        let mut updates = Updates::new(rows.columns, Lane::Constant(time, row_count), rows.diffs);
        if let Some(((last, last_input), others)) = inputs.split_last_mut() {
            for (dataflow, input) in others {
                give(input, &mut updates.clone(), time);
                count_rows(&mut self.dataflows, *dataflow, row_count);
            }
            give(last_input, &mut updates, time);
            count_rows(&mut self.dataflows, *last, row_count);
        }
        volume
    }

    fn append_backfill(&mut self, dataflow: ObjectId, relation: ObjectId, rows: Rows, epoch: Timestamp) -> usize {
        let (row_count, volume) = (rows.row_count(), rows.volume());
        if let Some(input) = self.backfills.get_mut(&(dataflow, relation)) {
            let mut updates = Updates::new(rows.columns, Lane::Constant(epoch, row_count), rows.diffs);
            give(input, &mut updates, epoch);
            count_rows(&mut self.dataflows, dataflow, row_count);
        }
        volume
    }

    fn advance(&mut self, closed: Timestamp) {
        self.closed = closed;
        for (_, input) in self.inputs.values_mut().flatten() {
            input.advance_to(closed + 1);
        }
        for dataflow in self.dataflows.values_mut() {
            dataflow.compact(closed);
        }
    }

    fn install(&mut self, plan: Arc<DataflowPlan>, as_of: Timestamp, backfilled: &[ObjectId], progress: Arc<Progress>) {
        let mut imports: HashMap<ObjectId, Trace> = HashMap::new();
        for id in plan.imports() {
            if let Some(dataflow) = self.dataflows.get(&id) {
                imports.insert(id, dataflow.trace.clone());
            }
        }
        let index = self.timely.next_dataflow_index();
        let watermarks = plan.awaited_sources().map(|source| {
            let course = self.watermarks.entry(source).or_default();
            (source, course.follow(as_of))
        });
        let watermarks = watermarks.collect();
        let (inputs, backfills, rendered) = self.timely.dataflow_named(&plan.name, |scope| {
            let mut inputs: Vec<(ObjectId, Input)> = Vec::new();
            let mut backfills: Vec<(ObjectId, Input)> = Vec::new();
            let mut sources: HashMap<ObjectId, Stream<'_, Timestamp, Updates>> = HashMap::new();
            for relation in plan.sources() {
                let mut input = Input::new_with_builder();
                let mut rows = input.to_stream(scope);
                input.advance_to(as_of + 1);
                inputs.push((relation, input));
                if backfilled.contains(&relation) {
                    let mut history = Input::new_with_builder();
                    rows = rows.concat(history.to_stream(scope));
                    history.advance_to(1);
                    backfills.push((relation, history));
                }
                sources.insert(relation, rows);
            }
            let clock = Clock { as_of, agenda: Arc::clone(&self.shared.agenda), watermarks };
            let rendered = render::render(&plan, scope, sources, &mut imports, &clock).map(|rendered| {
                let errors = Rc::new(RefCell::new(Vec::new()));
                let errors_probe = ProbeHandle::new();
                collect_errors(rendered.errors, Rc::clone(&errors), &errors_probe);
                (rendered.trace, rendered.arrangements, errors, errors_probe)
            });
            (inputs, backfills, rendered)
        });
        let (mut trace, arrangements, errors, errors_probe) = match rendered {
            Ok(rendered) => rendered,
            Err(error) => {
                // The plan passed `render::check` and its imports run: only a defect gets here. Its reads say so.
                tracing::error!(dataflow = %plan.id, %error, "dataflow could not be rendered");
                self.timely.drop_dataflow(index);
                return;
            }
        };
        for (relation, input) in inputs {
            self.inputs.entry(relation).or_default().push((plan.id, input));
        }
        self.backfills.extend(backfills.into_iter().map(|(relation, input)| ((plan.id, relation), input)));
        let sealed = trace.new_listener(self.idle_activator());
        let dataflow = Dataflow {
            index,
            trace,
            retain_history_ms: plan.options.retain_history_ms,
            sealed,
            upper: 0,
            errors_probe,
            errors,
            frontier: 0,
            progress,
            arrangements,
            rows_in: 0,
            rows_out: 0,
        };
        self.dataflows.insert(plan.id, dataflow);
    }

    /// Activates nothing: listeners are looked at after every step anyway.
    fn idle_activator(&self) -> Activator {
        self.timely.activator_for(Rc::from([usize::MAX]))
    }

    fn uninstall(&mut self, id: ObjectId) {
        let ended = || PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "the relation was dropped meanwhile");
        for peek in self.peeks.extract_if(.., |peek| peek.dependencies.contains(&id)) {
            peek.part.fail(ended());
        }
        for listener in self.listeners.extract_if(.., |listener| listener.dataflow() == id) {
            listener.fail(ended());
        }
        for inputs in self.inputs.values_mut() {
            inputs.retain(|(dataflow, _)| *dataflow != id);
        }
        self.inputs.retain(|_, inputs| !inputs.is_empty());
        self.backfills.retain(|(dataflow, _), _| *dataflow != id);
        if let Some(dataflow) = self.dataflows.remove(&id) {
            self.timely.drop_dataflow(dataflow.index);
        }
    }

    fn peek(&mut self, part: PeekPart) {
        let Some(dataflow) = part.dataflow().and_then(|id| self.dataflows.get(&id)) else {
            // Installed, but it could not be rendered here.
            part.fail(PgError::internal("the dataflow could not be built"));
            return;
        };
        let peek =
            PendingPeek { dependencies: part.dependencies(), as_of: part.as_of(), trace: dataflow.trace.clone(), part };
        self.peeks.push(peek);
    }

    fn subscribe(&mut self, part: SubscribePart) {
        let activator = self.idle_activator();
        match self.dataflows.get_mut(&part.dataflow) {
            Some(dataflow) => self.listeners.push(Listener::new(part, &mut dataflow.trace, activator)),
            None => part.fail(PgError::internal("the dataflow could not be built")),
        }
    }

    fn measure(&self) -> Vec<(ObjectId, Measured)> {
        self.dataflows.iter().map(|(id, dataflow)| (*id, dataflow.measure())).collect()
    }

    /// Publishes progress, then answers what it has made answerable.
    fn serve(&mut self) {
        let mut has_moved = false;
        for (id, dataflow) in &mut self.dataflows {
            let before = dataflow.frontier;
            let errors = dataflow.look();
            if !errors.is_empty() {
                self.shared.errors.update(*id, errors, dataflow.frontier);
            }
            if dataflow.frontier != before {
                has_moved = true;
                dataflow.compact(self.closed);
                dataflow.progress.advance(self.timely.index(), dataflow.frontier);
            }
        }
        for peek in self.peeks.extract_if(.., |peek| peek.part.is_cancelled() || is_ready(&self.dataflows, peek)) {
            let share = Share::of(&peek.trace);
            peek.part.answer(share);
        }
        if !self.listeners.is_empty() {
            self.deliver();
        }
        if has_moved {
            self.shared.notify_progress();
        }
    }

    fn deliver(&mut self) {
        for mut listener in std::mem::take(&mut self.listeners) {
            match listener.deliver() {
                Ok(true) => self.listeners.push(listener),
                Ok(false) => listener.leave(),
                Err(error) => listener.fail(error),
            }
        }
    }
}

/// Whether the dataflow and all it imports from are complete at the peek's time.
fn is_ready(dataflows: &BTreeMap<ObjectId, Dataflow>, peek: &PendingPeek) -> bool {
    peek.dependencies.iter().all(|id| dataflows.get(id).is_some_and(|dataflow| dataflow.frontier > peek.as_of))
}

/// Sends updates at `time`, which is not before the input's.
fn give(input: &mut Input, updates: &mut Updates, time: Timestamp) {
    input.advance_to(time);
    input.send_batch(updates);
}

fn count_rows(dataflows: &mut BTreeMap<ObjectId, Dataflow>, id: ObjectId, row_count: usize) {
    if let Some(dataflow) = dataflows.get_mut(&id) {
        dataflow.rows_in += row_count as u64;
    }
}

/// Ends the error stream in a list, with a probe after it: what the probe has passed is in some worker's list.
fn collect_errors(
    errors: Stream<'_, Timestamp, ErrorUpdates>,
    list: Rc<RefCell<ErrorUpdates>>,
    probe: &ProbeHandle<Timestamp>,
) {
    let collected = errors.unary::<NoopBuilder<Vec<()>>, _, _, _>(Pipeline, "Errors", move |_, _| {
        move |input, _output| input.for_each(|_, updates| list.borrow_mut().append(updates))
    });
    collected.probe_with(probe);
}

impl Dataflow {
    /// Takes in what happened in the last step; returns the errors it brought.
    fn look(&mut self) -> ErrorUpdates {
        for instruction in self.sealed.1.borrow_mut().drain(..) {
            match instruction {
                TraceReplayInstruction::Frontier(frontier) => {
                    self.upper = frontier.elements().first().copied().unwrap_or(Timestamp::MAX);
                }
                TraceReplayInstruction::Span(span, _) => {
                    let rows = span.inner.iter().flat_map(|batch| &batch.chunks).map(|chunk| chunk.times().len());
                    self.rows_out += rows.sum::<usize>() as u64;
                }
            }
        }
        let errors_frontier =
            self.errors_probe.with_frontier(|frontier| frontier.first().copied().unwrap_or(Timestamp::MAX));
        self.frontier = self.upper.min(errors_frontier);
        std::mem::take(&mut *self.errors.borrow_mut())
    }

    /// Lets the export forget what nobody can ask for: times before the last closed one, as far as they are complete.
    fn compact(&mut self, closed: Timestamp) {
        let since = closed.saturating_sub(self.retain_history_ms);
        self.trace.set_logical_compaction(AntichainRef::new(&[since.min(self.upper)]));
        if self.upper < Timestamp::MAX {
            self.trace.set_physical_compaction(AntichainRef::new(&[self.upper]));
        } else {
            self.trace.set_physical_compaction(AntichainRef::new(&[]));
        }
    }

    fn measure(&self) -> Measured {
        let operators = self.arrangements.iter().map(|arrangement| {
            let size = arrangement.size();
            OperatorStats {
                node: arrangement.node,
                name: arrangement.name.clone(),
                row_count: size.rows,
                size_bytes: size.bytes,
                batch_count: size.batches,
            }
        });
        Measured { rows_in: self.rows_in, rows_out: self.rows_out, operators: operators.collect() }
    }
}
