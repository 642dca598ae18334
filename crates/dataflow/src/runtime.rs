//! The runtime: one timeline, one sequence of commands, timely workers that keep every installed plan up to date.
//!
//! ```text
//!   append, write, tick, install, peek, subscribe        (any thread)
//!        |  under the timeline's lock: stamp, then queue
//!        v
//!   worker 0 queue   worker 1 queue   ..                 one order for all
//!        v                v
//!   timely worker    timely worker                       inputs -> operators -> exported trace
//!        |                |
//!        '---- shared ----'                              frontiers, error rows, parts of peeks and subscriptions
//! ```
//!
//! Every live input of every dataflow advances together: closing a time is one command. A read is at the last closed time and
//! waits, on each worker, until the export's frontier has passed it; so what a returned [`Runtime::write`] wrote is in every
//! answer asked for afterwards.

pub mod ingest;
pub mod peek;
pub mod stats;
pub mod subscribe;

mod command;
mod errors;
mod snapshot;
mod timeline;
mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use plan::dataflow_plan::DataflowPlan;
use repr::source::Positions;
use repr::{Diff, Lane, ObjectId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::DataflowError;
use crate::errors::ErrorRow;
use command::{Command, Rows};
use ingest::{Backfill, Write};
use peek::{PeekCollector, PeekTarget, Peeked};
use stats::{DataflowStats, LatencyHistogram, RelationStats, StatsCollector};
use subscribe::{SubscribeEvent, Subscription};
use timeline::Shared;

/// How many workers the runtime has.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeConfig {
    /// Threads, at least one. A row lives on the worker that its key's hash names.
    pub workers: usize,
}

/// A handle to the running dataflows. Clones share them; the last one dropped shuts them down.
#[derive(Clone)]
pub struct Runtime {
    owner: Arc<Owner>,
}

/// Ends the workers with the last handle. Workers themselves hold only `shared`.
struct Owner {
    shared: Arc<Shared>,
    threads: parking_lot::Mutex<Option<worker::Threads>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.request_shutdown();
        self.threads.lock().take();
    }
}

/// A dataflow that has begun.
pub struct Installed {
    /// The first time at which it can be read.
    pub as_of: Timestamp,
    /// One for each source it reads that has been read before: the caller reads those again from the start.
    pub backfills: Vec<Backfill>,
}

impl Runtime {
    /// Starts the worker threads. They park until there is something to do.
    pub fn start(config: RuntimeConfig) -> Result<Runtime, DataflowError> {
        let (shared, receivers) = Shared::new(config.workers.max(1))?;
        let threads = worker::start(&shared, receivers)?;
        Ok(Runtime { owner: Arc::new(Owner { shared, threads: parking_lot::Mutex::new(Some(threads)) }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Adds rows to a relation at the open time, without closing it; returns that time.
    ///
    /// `positions`, for a source, is how far it has been read with these rows. A relation that no dataflow reads drops its
    /// rows but keeps its positions. After a failure the rows go nowhere; see [`Runtime::failed`].
    ///
    /// A column that no dataflow reads may be a `NullArray`. None, and nothing is appended, if one is that is read: a dataflow
    /// has come that reads more; see [`Runtime::wanted_columns`].
    pub fn append(
        &self,
        relation: ObjectId,
        columns: Vec<ArrayRef>,
        row_count: usize,
        diffs: Lane<Diff>,
        positions: Option<Positions>,
    ) -> Option<Timestamp> {
        debug_assert_eq!(diffs.len(), row_count);
        let mut timeline = self.shared().timeline.lock();
        if !timeline.are_enough(relation, &columns) {
            return None;
        }
        let time = timeline.open_time();
        self.shared().append(&mut timeline, relation, Rows { columns, diffs });
        if let Some(positions) = positions {
            timeline.relation(relation).positions = positions;
        }
        Some(time)
    }

    /// Says that no row of a source is expected any more whose event time is before `watermark`, at the open time: rows that came
    /// before or come with it are there when windows close. Watermarks do not go back: an earlier one changes nothing.
    pub fn advance_watermark(&self, relation: ObjectId, watermark: i64) {
        let mut timeline = self.shared().timeline.lock();
        self.shared().advance_watermark(&mut timeline, relation, watermark);
    }

    /// The columns of a relation that some dataflow reads.
    pub fn wanted_columns(&self, relation: ObjectId) -> BTreeSet<usize> {
        self.shared().timeline.lock().wanted_columns(relation)
    }

    /// Blocks while too many rows wait to be worked in. For source threads, before they read on; returns at once for a
    /// relation that no dataflow reads, and after a failure.
    pub fn wait_capacity(&self, relation: ObjectId) {
        self.shared().wait_capacity(relation);
    }

    /// Adds rows to any number of relations at one time, which is returned. Reads asked for from now on see them all.
    ///
    /// The time is closed at once, unless the dataflows lag: then writes share a time, which is closed as soon as the
    /// dataflows have caught up or someone reads. Blocks while a million rows wait to be worked in.
    pub fn write(&self, writes: Vec<Write>, watermarks: Vec<(ObjectId, i64)>) -> Timestamp {
        let rows = |Write { relation, columns, row_count, diffs }| {
            debug_assert_eq!(diffs.len(), row_count);
            (relation, Rows { columns, diffs })
        };
        self.shared().write(writes.into_iter().map(rows).collect(), &watermarks)
    }

    /// Closes the open time, whatever it holds, and returns it.
    pub fn tick(&self) -> Timestamp {
        let mut timeline = self.shared().timeline.lock();
        let time = timeline.open_time();
        self.shared().close(&mut timeline, time);
        time
    }

    /// For a timer of a few milliseconds: closes the open time if rows wait in it and the dataflows have kept up.
    ///
    /// While sources bring nothing but large batches, they are catching up, and a time is left open for up to a tenth of a second.
    /// Under load times grow, so that work amortises: with more than one closed time still being worked in, the open one is
    /// closed only once it holds a quarter of a million rows. Also moves on what slow subscribers have left waiting.
    pub fn tick_if_due(&self) {
        self.shared().tick_if_due();
    }

    /// A source that was catching up has no more rows for now: the time that was left open for them may be closed.
    pub fn caught_up(&self) {
        self.shared().caught_up();
    }

    /// Starts a dataflow as of a time that is closed for it.
    ///
    /// Everything it imports must run; updates of its sources from now on reach it by themselves, and what they brought
    /// before must be read again through the returned backfills. Until all of those have finished it has no answer.
    pub fn install(&self, plan: DataflowPlan) -> Result<Installed, DataflowError> {
        self.check_failed()?;
        crate::render::check(&plan)?;
        let shared = self.shared();
        let plan = Arc::new(plan);
        let mut timeline = shared.timeline.lock();
        if timeline.shut_down {
            return Err(DataflowError::Stopped);
        }
        let dependencies = timeline.dependencies(&plan)?;
        let as_of = timeline.open_time();
        shared.close(&mut timeline, as_of);
        let backfilled: Vec<(ObjectId, Positions)> = plan
            .sources()
            .into_iter()
            .map(|relation| (relation, timeline.relation(relation).positions.clone()))
            .filter(|(_, positions)| !positions.is_empty())
            .collect();
        let progress = timeline.begin(&plan, as_of, dependencies, shared.workers());
        let relations: Vec<ObjectId> = backfilled.iter().map(|(relation, _)| *relation).collect();
        shared.broadcast(&timeline, || Command::Install {
            plan: Arc::clone(&plan),
            as_of,
            backfilled: relations.clone(),
            progress: Arc::clone(&progress),
        });
        let backfills = backfilled
            .into_iter()
            .map(|(relation, positions)| {
                let columns = plan.source_columns(relation).collect();
                Backfill::new(Arc::clone(shared), Arc::clone(&progress), plan.id, relation, columns, positions, as_of)
            })
            .collect();
        Ok(Installed { as_of, backfills })
    }

    /// Ends a dataflow. What imports it must have ended before; its pending peeks and subscriptions fail.
    pub fn uninstall(&self, id: ObjectId) {
        let shared = self.shared();
        let mut timeline = shared.timeline.lock();
        if timeline.end(id) {
            shared.broadcast(&timeline, || Command::Uninstall { id });
            shared.errors.forget(id);
        }
    }

    /// Reads exports, all at the last closed time. Each answer comes when its dataflow has got there.
    ///
    /// A dropped receiver cancels its part. An unknown dataflow is answered with an error.
    pub fn peek(&self, targets: Vec<PeekTarget>) -> Peeked {
        self.peek_at(targets, None)
    }

    /// The same at an earlier time. A dataflow that does not keep its history so long answers with error `72000`, and `22023`
    /// is the error for a time that has not come.
    pub fn peek_at(&self, targets: Vec<PeekTarget>, at: Option<Timestamp>) -> Peeked {
        let shared = self.shared();
        let mut timeline = shared.timeline.lock();
        let closed = shared.readable_time(&mut timeline, at);
        let as_of = at.unwrap_or(closed);
        let answers = targets
            .into_iter()
            .map(|target| {
                let (sender, receiver) = oneshot::channel();
                match timeline.dataflows.get(&target.dataflow) {
                    None => drop(sender.send(Err(DataflowError::UnknownDataflow(target.dataflow).into()))),
                    Some(dataflow) if let Err(error) = dataflow.check_readable(as_of, closed) => {
                        drop(sender.send(Err(error)));
                    }
                    Some(dataflow) => {
                        let (plan, dependencies) = (Arc::clone(&dataflow.plan), Arc::clone(&dataflow.dependencies));
                        let collector =
                            PeekCollector::new(Arc::clone(shared), plan, target, as_of, dependencies, sender);
                        if let Some(collector) = collector {
                            shared.broadcast(&timeline, || Command::Peek(collector.part()));
                        }
                    }
                }
                receiver
            })
            .collect();
        Peeked { as_of, answers }
    }

    /// Follows an export: its rows as of the last closed time (with `snapshot`), then the updates of each time after it, in
    /// order, each followed by the `Progress` that completes it.
    ///
    /// A subscriber that lets millions of updates wait is told `Failed` and dropped; so is one whose dataflow ends. Dropping
    /// the receiver ends the subscription.
    pub fn subscribe(&self, dataflow: ObjectId, snapshot: bool) -> mpsc::Receiver<SubscribeEvent> {
        self.subscribe_at(dataflow, snapshot, None)
    }

    /// The same from an earlier time on; errors as those of [`Runtime::peek_at`].
    pub fn subscribe_at(
        &self,
        dataflow: ObjectId,
        snapshot: bool,
        at: Option<Timestamp>,
    ) -> mpsc::Receiver<SubscribeEvent> {
        let shared = self.shared();
        let mut timeline = shared.timeline.lock();
        let closed = shared.readable_time(&mut timeline, at);
        let as_of = at.unwrap_or(closed);
        let (subscription, receiver) = Subscription::new(shared.workers());
        match timeline.dataflows.get(&dataflow).map(|dataflow| dataflow.check_readable(as_of, closed)) {
            None => subscription.fail(DataflowError::UnknownDataflow(dataflow).into()),
            Some(Err(error)) => subscription.fail(error),
            Some(_) => {
                shared.subscriptions.lock().push(Arc::clone(&subscription));
                for worker in 0..shared.workers() {
                    let part = subscription.part(shared, worker, dataflow, as_of, snapshot);
                    shared.send(&timeline, worker, Command::Subscribe(part));
                }
            }
        }
        receiver
    }

    /// Sees to it that a time is closed once the clock has reached it, though nobody writes.
    pub fn close_by(&self, time: Timestamp) {
        self.shared().agenda.add([time].into_iter());
    }

    /// How far a source has been read, counting all that was appended. Empty for one never read.
    pub fn source_positions(&self, relation: ObjectId) -> Positions {
        let timeline = self.shared().timeline.lock();
        timeline.relations.get(&relation).map(|relation| relation.positions.clone()).unwrap_or_default()
    }

    /// Forgets a relation that was dropped.
    pub fn forget_relation(&self, relation: ObjectId) {
        self.shared().timeline.lock().relations.remove(&relation);
    }

    /// The last closed time: what a peek made now would read.
    pub fn closed(&self) -> Timestamp {
        self.shared().timeline.lock().closed
    }

    /// The earliest time at which a dataflow may still change; None if it is unknown. A dataflow that can never change again
    /// is at `Timestamp::MAX`.
    pub fn frontier(&self, id: ObjectId) -> Option<Timestamp> {
        self.shared().timeline.lock().dataflows.get(&id).map(|dataflow| dataflow.progress.frontier())
    }

    /// Blocks until a dataflow has everything up to and including `time`, or `timeout` has passed. False on the timeout,
    /// after a failure, and for a dataflow that does not run.
    pub fn wait_until(&self, id: ObjectId, time: Timestamp, timeout: Duration) -> bool {
        self.shared().wait_until(id, time, timeout)
    }

    /// The rows that failed and have not been mended, of every dataflow: where, what, since when, how often.
    pub fn errors(&self) -> Vec<(ObjectId, ErrorRow, Timestamp, Diff)> {
        self.shared().errors.live()
    }

    /// How far and how large each dataflow is. Asks the workers and waits for a moment; what a busy worker does not answer in
    /// time is as it last was.
    pub fn stats(&self) -> Vec<DataflowStats> {
        let shared = self.shared();
        let collector = StatsCollector::new(shared.workers());
        {
            let timeline = shared.timeline.lock();
            shared.broadcast(&timeline, || Command::Stats(collector.part()));
        }
        let measured = collector.wait(Duration::from_millis(200));
        shared.timeline.lock().stats(measured)
    }

    /// Rows appended to each relation since the start.
    pub fn relation_stats(&self) -> Vec<RelationStats> {
        self.shared().timeline.lock().relation_stats()
    }

    /// How long peeks took, from the call to the answer.
    pub fn peek_latency(&self) -> LatencyHistogram {
        self.shared().peek_latency.snapshot()
    }

    /// Why the runtime can do no more work, if a worker panicked.
    pub fn failed(&self) -> Option<String> {
        self.shared().failure.lock().clone()
    }

    fn check_failed(&self) -> Result<(), DataflowError> {
        self.failed().map_or(Ok(()), |message| Err(DataflowError::Failed(message)))
    }

    /// Works in what was queued, answers pending peeks that can be answered, and joins the threads.
    ///
    /// Whatever is asked afterwards is answered with an error.
    pub fn shutdown(&self) {
        self.shared().request_shutdown();
        self.owner.threads.lock().take();
    }
}
