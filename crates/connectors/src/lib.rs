//! Outside bytes to rows: one file a connector (`file`, `kafka`, `load_generator`), one a format (`csv`, `json`, `text`, `bytes`).
//!
//! ```text
//! SourceDescription --open(from, to)--> Source --next--> SourceBatch { columns, errors, positions }
//!                                                            ^ format::Decoder, straight into Arrow builders
//!                                                            ^ watermark, where one is declared: late rows
//! ```
//!
//! A connector frames records and knows positions; a format turns a record into a row. What does not decode is never
//! lost and never stops the rest: it is a [`DecodeError`] with its place, beside the rows that did.
//! Everything here blocks: `engine` gives every source a thread.

mod file;
mod format;
mod kafka;
mod load_generator;
mod options;
mod watermark;

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::ArrayRef;
use repr::source::{Positions, SourceDescription};
use repr::{PgError, SqlState};

pub use format::{FORMATS, Format};
pub use options::OptionDoc;
use watermark::Watermarked;

/// Rows of a batch at most. Kernels are at their best from a few thousand rows on; more would only delay the first.
pub(crate) const BATCH_ROWS_MAX: usize = 16_384;

/// Gives the rows of one source, in an order that depends on nothing but the source.
pub trait Source: Send {
    /// The next rows, waiting at most about `timeout` for them.
    ///
    /// Errors: what keeps the source from being read at all. It may be opened again from the positions of the last batch.
    fn next(&mut self, timeout: Duration) -> Result<Next, PgError>;

    /// Says which columns will be read: from the next batch on the others may come as `NullArray`s.
    ///
    /// Their values are checked all the same, so that which records are rows does not depend on who reads them.
    fn read_only(&mut self, _columns: &BTreeSet<usize>) {}
}

/// What [`Source::next`] found.
#[derive(Debug)]
pub enum Next {
    /// Rows, or positions moved on without any.
    Batch(SourceBatch),
    /// Nothing within the timeout; more may come.
    Idle,
    /// Never more.
    End,
}

/// Rows of a source.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// The relation's columns, all of `row_count` rows. One that is not read may be a `NullArray`.
    pub columns: Vec<ArrayRef>,
    /// The number of rows.
    pub row_count: usize,
    /// Records before `positions` that are no row.
    pub errors: Vec<DecodeError>,
    /// Which partitions or files the rows are of: so many of one, then so many of the next. As named in `positions`. Empty
    /// once rows were left out for being late, or for not being so: whoever needs it comes before that.
    pub partitions: Vec<(String, usize)>,
    /// Rows that were late and left out.
    pub late_rows: usize,
    /// How far the source is read with this batch.
    pub positions: Positions,
    /// How many bytes were read for it.
    pub byte_count: usize,
}

/// A record that is no row.
#[derive(Clone, Debug)]
pub struct DecodeError {
    /// Where it stands: `flights.csv, byte 4096`, `topic orders, partition 0, offset 17`. The same each time it is read.
    pub location: String,
    /// The record, cut to a length that can be shown.
    pub input: String,
    /// What is wrong with it.
    pub error: PgError,
}

/// One kind of outside system.
pub struct Connector {
    /// As [`SourceDescription::connector`].
    pub name: &'static str,
    /// What it is, for the reference.
    pub doc: &'static str,
    /// The options it takes.
    pub options: &'static [OptionDoc],
    open: fn(&SourceDescription, &Positions, Option<&Positions>) -> Result<Box<dyn Source>, PgError>,
    latest: fn(&SourceDescription) -> Result<Positions, PgError>,
    validate: fn(&SourceDescription) -> Result<(), PgError>,
}

/// Every connector, by name.
pub static CONNECTORS: &[Connector] = &[file::CONNECTOR, kafka::CONNECTOR, load_generator::CONNECTOR];

/// Opens a source at `from` (a partition or file that is not in it: at its start), to end at `to` where that is given.
///
/// A partition or file that is not in `to` is not read at all then.
/// Errors: 22023 for options that mean nothing, and those of the outside system.
pub fn open(
    description: &SourceDescription,
    from: &Positions,
    to: Option<&Positions>,
) -> Result<Box<dyn Source>, PgError> {
    let connector = connector(description)?;
    match description.watermark {
        None => (connector.open)(description, from, to),
        Some(watermark) => Watermarked::open(watermark, from, to, |from, to| (connector.open)(description, from, to)),
    }
}

/// Where the source's data ends now. Reading up to there ends.
///
/// A load generator paced by the clock has no such place outside of the reader that runs: it answers its start.
pub fn latest(description: &SourceDescription) -> Result<Positions, PgError> {
    (connector(description)?.latest)(description)
}

/// Whether a source can be created: its options are known and well formed, its columns fit its format, and what it names
/// outside is there.
///
/// Errors: 22023 for a bad option, 42704 for an unknown connector, format or topic, 58P01 for a missing file, 08006 for a
/// broker out of reach.
pub fn validate(description: &SourceDescription) -> Result<(), PgError> {
    let connector = connector(description)?;
    options::check_known(connector.name, &description.options, connector.options)?;
    (connector.validate)(description)
}

fn connector(description: &SourceDescription) -> Result<&'static Connector, PgError> {
    CONNECTORS.iter().find(|connector| connector.name == description.connector).ok_or_else(|| {
        let names: Vec<&str> = CONNECTORS.iter().map(|connector| connector.name).collect();
        PgError::new(SqlState::UNDEFINED_OBJECT, format!("connector \"{}\" does not exist", description.connector))
            .with_hint(format!("The connectors are {}.", names.join(", ")))
    })
}
