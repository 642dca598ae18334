//! What the workers are told: one sequence, the same for every worker, ordered by the timeline's lock.
//!
//! Only [`Command::Append`] and [`Command::BackfillAppend`] go to a single worker (whoever's turn it is); their place in the
//! sequence still holds: everything stamped `t` is queued before the `Advance` that closes `t`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
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
    /// From `time` on the watermark of a source is this.
    Watermark { relation: ObjectId, watermark: i64, time: Timestamp },
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

/// Batches of fewer rows take little memory, however wide the rows.
const LARGE_ROWS: usize = 1024;
/// What one row may take before it counts as more.
const VOLUME_BYTES: usize = 32;

/// Rows of a relation with their diffs, all changing at the time that the command says.
pub(crate) struct Rows {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) diffs: Lane<Diff>,
}

impl Rows {
    pub(crate) fn row_count(&self) -> usize {
        self.diffs.len()
    }

    /// The number of rows, a wide one counting as several: what bounds of memory are measured in.
    pub(crate) fn volume(&self) -> usize {
        let row_count = self.row_count();
        if row_count < LARGE_ROWS {
            return row_count;
        }
        let sizes = self.columns.iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        row_count.max(sizes.sum::<usize>() / VOLUME_BYTES)
    }
}
