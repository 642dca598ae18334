//! What the workers are told: one sequence, the same for every worker, ordered by the timeline's lock.
//!
//! Only [`Command::Append`] and [`Command::BackfillAppend`] go to a single worker (whoever's turn it is); their place in the
//! sequence still holds: everything stamped `t` is queued before the `Advance` that closes `t`.

use std::sync::Arc;

use arrow::array::ArrayRef;
use plan::dataflow_plan::DataflowPlan;
use repr::{Diff, Lane, ObjectId, Timestamp};

use super::peek::PeekPart;
use super::stats::StatsPart;
use super::subscribe::SubscribePart;
use super::timeline::Progress;

/// One instruction to one worker.
pub(crate) enum Command {
    /// Updates of a relation, for every dataflow that reads it.
    Append { relation: ObjectId, rows: Rows, time: Timestamp },
    /// No more updates at or before `closed` will come.
    Advance { closed: Timestamp },
    /// A new dataflow, rendered as of the time just closed. `backfilled` sources have a history that comes by itself.
    Install { plan: Arc<DataflowPlan>, as_of: Timestamp, backfilled: Vec<ObjectId>, progress: Arc<Progress> },
    /// The dataflow is gone.
    Uninstall { id: ObjectId },
    /// History of one source for one dataflow; `epoch` is below the dataflow's `as_of`.
    BackfillAppend { dataflow: ObjectId, relation: ObjectId, rows: Rows, epoch: Timestamp },
    /// No more history before `epoch`; None: no more history at all.
    BackfillAdvance { dataflow: ObjectId, relation: ObjectId, epoch: Option<Timestamp> },
    /// Read this worker's share of an export.
    Peek(PeekPart),
    /// Follow this worker's share of an export.
    Subscribe(SubscribePart),
    /// Say how large everything is.
    Stats(StatsPart),
    /// Answer what is pending, then stop.
    Shutdown,
}

/// Rows of a relation with their diffs, all changing at the time that the command says.
pub(crate) struct Rows {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) diffs: Lane<Diff>,
}

impl Rows {
    pub(crate) fn row_count(&self) -> usize {
        self.diffs.len()
    }
}
