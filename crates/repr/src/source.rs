//! What a source is, in plain values: which connector, with which options, in which format, giving which columns.
//!
//! `sql` makes it from CREATE SOURCE, the catalog holds it, `connectors` opens it.

use std::collections::BTreeMap;

use crate::{RelationSchema, Watermark};

/// Option names are lower case with underscores (`header`, `start_offset`), values as the user wrote them, unquoted.
pub type Options = BTreeMap<String, String>;

/// How far a source has been read: by partition or file, the position after the last row read.
///
/// A file's position is a byte offset, a Kafka partition's the next offset, a generator's the next row number.
/// A source's contents are a function of its positions: reading from the start up to them gives the same rows again.
///
/// A source with a watermark has beside each partition the latest event time read of it, as [`event_time_key`] says.
pub type Positions = BTreeMap<String, u64>;

/// What follows a partition's name in the key of its event time.
const EVENT_TIME: &str = " (event time)";

/// Where [`Positions`] hold the latest event time of a partition: the bits of an `i64`.
pub fn event_time_key(partition: &str) -> String {
    format!("{partition}{EVENT_TIME}")
}

/// The partition whose event time this key of [`Positions`] is for; None for the key of a position.
pub fn event_time_partition(key: &str) -> Option<&str> {
    key.strip_suffix(EVENT_TIME)
}

/// A source, ready to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDescription {
    /// A name in `connectors::CONNECTORS`: `file`, `kafka`, `load_generator`.
    pub connector: String,
    /// The connector's options, a connection's among them (`path`, `follow`, `broker`, `topic`, ..).
    pub options: Options,
    /// A name in `connectors::format::FORMATS`: `csv`, `json`, `text`, `bytes`; None where the connector makes rows itself.
    pub format: Option<String>,
    /// The format's options, named as in PostgreSQL's COPY (`header`, `delimiter`, `null`, `quote`, `escape`).
    pub format_options: Options,
    /// The columns its rows have.
    pub schema: RelationSchema,
    /// How far event time has come, where that was declared.
    pub watermark: Option<Watermark>,
}
