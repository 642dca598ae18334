//! What `WATERMARK FOR column AS column - delay` says of a relation: how far event time has come in it.
//!
//! Event time is the value of one column. The watermark of a partition is the latest of it that was read there, less the
//! delay; a row with an earlier one is late. So whether a row is late depends on nothing but its partition's rows before it, and
//! reading the partition again finds the same rows late.

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
    /// The watermark where `latest` is the latest event time.
    pub fn behind(&self, latest: i64) -> i64 {
        latest.saturating_sub(self.delay)
    }
}
