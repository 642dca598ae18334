//! What a statement answers with.

use std::pin::Pin;

use arrow::record_batch::RecordBatch;
use futures::Stream;
use repr::{PgError, RelationSchema};

/// Result rows as they come. Columns are those of the response's schema in order; their Arrow names carry no meaning.
/// Dropping it cancels the work behind it. It ends after its first error.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, PgError>> + Send>>;

/// What a statement answers with.
pub enum Response {
    /// Rows, ended by a command tag that carries their count.
    Rows {
        /// The columns.
        schema: RelationSchema,
        /// The rows.
        rows: RowStream,
        /// How the tag begins.
        tag: RowsTag,
    },
    /// No rows.
    Command {
        /// The whole command tag: `CREATE TABLE`, `INSERT 0 3`.
        tag: String,
    },
    /// COPY .. TO STDOUT: rows for the server to format. The tag is `COPY n`.
    CopyOut {
        /// The columns.
        schema: RelationSchema,
        /// The rows.
        rows: RowStream,
        /// How to write them.
        options: CopyOptions,
    },
    /// COPY .. FROM STDIN: the server decodes what the client sends into columns of `copy.schema` and hands all of it to
    /// [`crate::Session::copy_in`].
    CopyIn(CopyIn),
    /// The empty statement.
    Empty,
}

/// The command tag of a [`Response::Rows`]; the server appends the row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsTag {
    /// `SELECT n`.
    Select,
    /// `FETCH n`.
    Fetch,
    /// `INSERT 0 n`, with RETURNING.
    Insert,
    /// `UPDATE n`, with RETURNING.
    Update,
    /// `DELETE n`, with RETURNING.
    Delete,
    /// `SHOW`, without a count.
    Show,
    /// `EXPLAIN`, without a count.
    Explain,
    /// `SUBSCRIBE n`.
    Subscribe,
}

impl RowsTag {
    /// The whole tag after `row_count` rows.
    pub fn complete(self, row_count: u64) -> String {
        match self {
            RowsTag::Select => format!("SELECT {row_count}"),
            RowsTag::Fetch => format!("FETCH {row_count}"),
            RowsTag::Insert => format!("INSERT 0 {row_count}"),
            RowsTag::Update => format!("UPDATE {row_count}"),
            RowsTag::Delete => format!("DELETE {row_count}"),
            RowsTag::Show => "SHOW".to_string(),
            RowsTag::Explain => "EXPLAIN".to_string(),
            RowsTag::Subscribe => format!("SUBSCRIBE {row_count}"),
        }
    }
}

/// A COPY .. FROM STDIN under way.
#[derive(Clone, Debug)]
pub struct CopyIn {
    /// The table.
    pub table: repr::ObjectId,
    /// The columns that the data has, in its order.
    pub schema: RelationSchema,
    /// For each of them, its index in the table.
    pub columns: Vec<usize>,
    /// How the data is written.
    pub options: CopyOptions,
}

/// COPY's data format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Tab-separated with backslash escapes.
    Text,
    /// Comma-separated with quotes.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
}

/// COPY's options, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The format.
    pub format: CopyFormat,
    /// Between fields; one byte.
    pub delimiter: char,
    /// What stands for NULL.
    pub null: String,
    /// Whether a first line has the column names.
    pub header: bool,
    /// CSV's quote.
    pub quote: char,
    /// CSV's escape within quotes.
    pub escape: char,
}

impl CopyOptions {
    /// PostgreSQL's defaults of a format.
    pub fn new(format: CopyFormat) -> CopyOptions {
        let csv = format == CopyFormat::Csv;
        CopyOptions {
            format,
            delimiter: if csv { ',' } else { '\t' },
            null: if csv { String::new() } else { "\\N".to_string() },
            header: false,
            quote: '"',
            escape: '"',
        }
    }
}

/// How grave a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // PostgreSQL's words.
pub enum Severity {
    Debug,
    Log,
    Info,
    Notice,
    Warning,
}

impl Severity {
    /// As the protocol spells it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Debug => "DEBUG",
            Severity::Log => "LOG",
            Severity::Info => "INFO",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
        }
    }
}

/// Something the client is told besides the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How grave.
    pub severity: Severity,
    /// What; an error's parts without being one.
    pub error: PgError,
}
