//! What a source is, in plain values: which connector, with which options, in which format, giving which columns.
//!
//! `sql` makes it from CREATE SOURCE, the catalog holds it, `connectors` opens it.

use std::collections::BTreeMap;

use crate::RelationSchema;

/// Option names are lower case with underscores (`header`, `start_offset`), values as the user wrote them, unquoted.
pub type Options = BTreeMap<String, String>;

/// How far a source has been read: by partition or file, the position after the last row read.
///
/// A file's position is a byte offset, a Kafka partition's the next offset, a generator's the next row number.
/// A source's contents are a function of its positions: reading from the start up to them gives the same rows again.
pub type Positions = BTreeMap<String, u64>;

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
}
