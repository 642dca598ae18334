//! What `CREATE TABLE` says beyond columns and keys.

use crate::Watermark;

/// The options of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// `APPEND ONLY`: rows are inserted and stay as they are.
    pub append_only: bool,
    /// `WATERMARK FOR`; only of a table that is append-only.
    pub watermark: Option<Watermark>,
    /// `RETAIN HISTORY FOR interval`, in milliseconds: how far back the table can be read. 0 is the present only.
    pub retain_history_ms: u64,
}
