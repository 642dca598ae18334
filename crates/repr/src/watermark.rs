//! What `WATERMARK FOR column AS column - delay` says of a relation: how far event time has come in it.
//!
//! Event time is the value of one column. The watermark of a partition is the latest of it that was read there, less the
//! delay; a row with an earlier one is late. So whether a row is late depends on nothing but its partition's rows before it, and
//! reading the partition again finds the same rows late.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use crate::PgError;

/// A relation's watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The column of event time, an index into the relation's: a timestamp or an integer.
    pub column: usize,
    /// How far the watermark stays behind the latest event time: microseconds for a timestamp, the column's own unit for an
    /// integer. Not negative.
    pub delay: i64,
    /// What becomes of late rows.
    pub late_rows: LateRows,
}

/// `LATE ROWS = apply | drop | only`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateRows {
    /// They are rows like any other.
    #[default]
    Apply,
    /// They are counted, and are no rows of the relation.
    Drop,
    /// They are all there is: what a relation of the same input with [`LateRows::Drop`] leaves out.
    Only,
}

impl LateRows {
    /// By its name as an option's value, lower case.
    pub fn parse(name: &str) -> Option<LateRows> {
        match name {
            "apply" => Some(LateRows::Apply),
            "drop" => Some(LateRows::Drop),
            "only" => Some(LateRows::Only),
            _ => None,
        }
    }
}

impl Watermark {
    /// The event times of rows that have all of the relation's columns.
    pub fn event_times(&self, columns: &[ArrayRef]) -> Result<Int64Array, PgError> {
        let times = cast(&columns[self.column], &DataType::Int64);
        let times = times.map_err(|error| PgError::internal(format!("event time: {error}")))?;
        Ok(times.as_primitive::<Int64Type>().clone())
    }

    /// Goes through event times in the order of their rows, on from `latest`, which becomes the latest of all. Which of them are
    /// late; a row without event time never is.
    pub fn follow(&self, times: &Int64Array, latest: &mut Option<i64>) -> Vec<usize> {
        let mut late = Vec::new();
        for (row, time) in times.iter().enumerate() {
            let Some(time) = time else { continue };
            if latest.is_some_and(|latest| time < self.behind(latest)) {
                late.push(row);
            }
            *latest = (*latest).max(Some(time));
        }
        late
    }

    /// The watermark where `latest` is the latest event time.
    pub fn behind(&self, latest: i64) -> i64 {
        latest.saturating_sub(self.delay)
    }
}
