//! What data is: types, values, rows, updates, and the errors a user reads.
//!
//! Everything here is shared vocabulary. A collection is the multiset that its updates `(row, time, diff)` add up to;
//! rows travel as Arrow columns ([`UpdateBatch`]), and [`types::SqlType`] says which Arrow type stores which SQL type.
//! No other crate of ours is named here, no I/O is done, and helpers for one crate's convenience do not belong here.

pub mod accumulator;
pub mod batch;
pub mod error;
pub mod hash;
pub mod numeric;
pub mod schema;
pub mod source;
pub mod table;
pub mod text;
pub mod types;
pub mod view;
pub mod watermark;

pub use batch::{Lane, UpdateBatch};
pub use error::{PgError, SqlState};
pub use schema::{ColumnSchema, RelationSchema};
pub use table::TableOptions;
pub use types::SqlType;
pub use view::{OnError, ViewOptions};
pub use watermark::{LateRows, Watermark};

/// A moment of the one timeline, in milliseconds since the Unix epoch where the clock allows it (a busy moment runs ahead).
pub type Timestamp = u64;

/// How many copies of a row an update adds (positive) or takes away (negative). Never zero in a consolidated batch.
pub type Diff = i64;

/// Identifies a catalog object or an arrangement for as long as it lives. Also its Postgres OID, so it fits 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
