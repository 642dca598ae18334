//! Rows on their way into the dataflows: table writes, and the history that a new dataflow reads again.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use repr::source::Positions;
use repr::{Diff, Lane, ObjectId, Timestamp};

use super::command::{Command, Rows};
use super::timeline::{Progress, Shared};
use crate::DataflowError;

/// After this many rows of history the dataflow may work them in: its reductions hold no more than that at once.
const EPOCH_ROWS: usize = 64 * 1024;

/// Updates of one table, part of an atomic [`super::Runtime::write`].
#[derive(Clone, Debug)]
pub struct Write {
    /// The table.
    pub relation: ObjectId,
    /// All its columns, in order.
    pub columns: Vec<ArrayRef>,
    /// Length of every column.
    pub row_count: usize,
    /// How each row's count changes.
    pub diffs: Lane<Diff>,
}

/// The way in for the history of one source into one new dataflow.
///
/// The dataflow's answers begin at its `as_of`; history may carry any earlier times, and is given small ones, 1, 2, 3, .., so
/// that it is worked in piece by piece. Dropped without [`Backfill::finish`], the dataflow never has an answer: uninstall it.
pub struct Backfill {
    /// The source.
    pub relation: ObjectId,
    /// The dataflow that waits for it.
    pub dataflow: ObjectId,
    /// The columns that it reads; others may be `NullArray`s.
    pub columns: BTreeSet<usize>,
    /// Where to stop: rows after these positions come by themselves.
    pub positions: Positions,
    shared: Arc<Shared>,
    progress: Arc<Progress>,
    as_of: Timestamp,
    epoch: Timestamp,
    epoch_rows: usize,
    turn: usize,
}

impl Backfill {
    pub(crate) fn new(
        shared: Arc<Shared>,
        progress: Arc<Progress>,
        dataflow: ObjectId,
        relation: ObjectId,
        columns: BTreeSet<usize>,
        positions: Positions,
        as_of: Timestamp,
    ) -> Backfill {
        Backfill { relation, dataflow, columns, positions, shared, progress, as_of, epoch: 1, epoch_rows: 0, turn: 0 }
    }

    /// Adds rows of the source, each once. Blocks while the workers' queues are full.
    ///
    /// Fails when the dataflow was uninstalled or the runtime stopped: then stop reading.
    pub fn append(&mut self, columns: Vec<ArrayRef>, row_count: usize) -> Result<(), DataflowError> {
        if row_count == 0 {
            return Ok(());
        }
        let rows = Rows { columns, diffs: Lane::Constant(1, row_count) };
        let accepted = self.shared.wait_queue(&self.progress)
            && self.shared.append_backfill(
                &self.progress,
                self.dataflow,
                self.relation,
                rows,
                self.epoch,
                &mut self.turn,
            );
        if !accepted {
            return Err(DataflowError::UnknownDataflow(self.dataflow));
        }
        self.epoch_rows += row_count;
        if self.epoch_rows >= EPOCH_ROWS && self.epoch + 1 < self.as_of {
            self.epoch += 1;
            self.epoch_rows = 0;
            self.advance(Some(self.epoch));
        }
        Ok(())
    }

    /// Says that the history is complete. The dataflow has an answer once all its backfills have finished.
    pub fn finish(self) {
        self.advance(None);
    }

    fn advance(&self, epoch: Option<Timestamp>) {
        let (dataflow, relation) = (self.dataflow, self.relation);
        let timeline = self.shared.timeline.lock();
        if !self.progress.ended() {
            self.shared.broadcast(&timeline, || Command::BackfillAdvance { dataflow, relation, epoch });
        }
    }
}

impl Rows {
    /// The same rows in slices of at most `piece_rows`.
    pub(crate) fn split(self, piece_rows: usize) -> Vec<Rows> {
        let row_count = self.row_count();
        if row_count <= piece_rows {
            return vec![self];
        }
        let starts = (0..row_count).step_by(piece_rows);
        starts.map(|start| self.slice(start, piece_rows.min(row_count - start))).collect()
    }

    /// All rows as one batch; as they were where their columns do not fit together.
    pub(crate) fn concat(mut batches: Vec<Rows>) -> Vec<Rows> {
        if batches.len() < 2 {
            return batches;
        }
        let width = batches[0].columns.len();
        if batches.iter().any(|rows| rows.columns.len() != width) {
            return batches;
        }
        let column = |index: usize| {
            let parts: Vec<&dyn Array> = batches.iter().map(|rows| rows.columns[index].as_ref()).collect();
            concat(&parts)
        };
        let Ok(columns) = (0..width).map(column).collect::<Result<Vec<ArrayRef>, _>>() else { return batches };
        let diffs: Vec<Diff> = batches.iter().flat_map(|rows| rows.diffs.iter()).collect();
        batches.clear();
        batches.push(Rows { columns, diffs: Lane::Values(diffs).compress() });
        batches
    }

    fn slice(&self, start: usize, len: usize) -> Rows {
        let columns = self.columns.iter().map(|column| column.slice(start, len)).collect();
        let diffs = match &self.diffs {
            Lane::Constant(diff, _) => Lane::Constant(*diff, len),
            Lane::Values(diffs) => Lane::Values(diffs[start..start + len].to_vec()),
        };
        Rows { columns, diffs }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn pieces_are_the_rows_in_order() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let rows = Rows { columns: vec![column], diffs: Lane::Values((0..10).collect()) };
        let pieces = rows.split(4);
        assert_eq!(pieces.iter().map(Rows::row_count).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(pieces[2].columns[0].len(), 2);
        assert_eq!(pieces[2].diffs, Lane::Values(vec![8, 9]));
        let whole = Rows::concat(pieces);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].columns[0].as_ref(), &Int64Array::from_iter_values(0..10) as &dyn Array);
        assert_eq!(whole[0].diffs, Lane::Values((0..10).collect()));
    }
}
