//! Updates as Arrow columns: the unit of data between connectors, storage, the dataflow and the wire.

use arrow::array::{Array, ArrayRef};

use crate::{Diff, Timestamp};

/// A column of times or diffs, often the same value throughout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lane<X> {
    /// One value for this many rows.
    Constant(X, usize),
    /// A value a row.
    Values(Vec<X>),
}

impl<X: Copy + PartialEq> Lane<X> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Lane::Constant(_, len) => *len,
            Lane::Values(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of row `index`; panics past the end of `Values`.
    #[inline(always)]
    pub fn get(&self, index: usize) -> X {
        match self {
            Lane::Constant(value, _) => *value,
            Lane::Values(values) => values[index],
        }
    }

    /// Values as a constant where they all agree.
    pub fn compress(self) -> Lane<X> {
        match self {
            Lane::Values(values) if values.first().is_some_and(|first| values.iter().all(|value| value == first)) => {
                Lane::Constant(values[0], values.len())
            }
            lane => lane,
        }
    }

    /// Every value in order.
    pub fn iter(&self) -> impl Iterator<Item = X> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Updates `(row, time, diff)`: columns in the relation's order, all of `row_count` rows.
///
/// Not necessarily sorted or consolidated. A relation may have no columns at all, hence the explicit count.
#[derive(Clone, Debug)]
pub struct UpdateBatch {
    /// One array a column; types as [`crate::SqlType::arrow`] of the relation's columns.
    pub columns: Vec<ArrayRef>,
    /// When each row changes.
    pub times: Lane<Timestamp>,
    /// By how many copies.
    pub diffs: Lane<Diff>,
}

impl UpdateBatch {
    /// A batch where every row changes at `time` by `diff`.
    pub fn constant(columns: Vec<ArrayRef>, row_count: usize, time: Timestamp, diff: Diff) -> UpdateBatch {
        debug_assert!(columns.iter().all(|column| column.len() == row_count));
        UpdateBatch { columns, times: Lane::Constant(time, row_count), diffs: Lane::Constant(diff, row_count) }
    }

    /// The number of updates.
    pub fn row_count(&self) -> usize {
        self.diffs.len()
    }

    /// Roughly what the batch occupies in memory.
    pub fn size_bytes(&self) -> usize {
        let lanes = |values: usize| values * 8;
        let times = if let Lane::Values(values) = &self.times { lanes(values.len()) } else { 0 };
        let diffs = if let Lane::Values(values) = &self.diffs { lanes(values.len()) } else { 0 };
        self.columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>() + times + diffs
    }
}
