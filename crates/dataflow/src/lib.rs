//! Running dataflows: plans in, maintained arrangements out.
//!
//! [`Runtime`] is the whole of it from outside: it takes updates and [`plan::dataflow_plan::DataflowPlan`]s, keeps every
//! plan's export up to date on timely workers, and answers peeks and subscriptions. Inside, `runtime` owns the timeline and
//! the workers, and `render` turns one plan into timely and differential operators over Arrow chunks.
//!
//! Only this crate names timely and differential-dataflow.

pub mod agenda;
pub mod arrange;
pub mod chunk;
mod chunker;
mod compare;
mod cursor;
pub mod errors;
mod expression;
pub mod render;
pub mod runtime;
pub mod updates;
pub mod watermark;

pub use errors::ErrorRow;
pub use runtime::ingest::{Backfill, Write};
pub use runtime::peek::{PeekAnswer, PeekTarget, Peeked};
pub use runtime::stats::{DataflowStats, LatencyHistogram, OperatorStats, RelationStats};
pub use runtime::subscribe::SubscribeEvent;
pub use runtime::{Installed, Runtime, RuntimeConfig};

use repr::{ObjectId, PgError, SqlState};

/// Why a dataflow cannot be built, or the runtime cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DataflowError {
    /// A dataflow of that id runs already.
    #[error("dataflow {0} runs already")]
    AlreadyInstalled(ObjectId),
    /// A worker panicked, or could not be started; nothing can be computed any more.
    #[error("the dataflow runtime has failed: {0}")]
    Failed(String),
    /// The plan contradicts itself: a defect of the planner.
    #[error("invalid plan: {0}")]
    InvalidPlan(String),
    /// An expression that cannot be run, as the user is told.
    #[error("{0}")]
    Plan(PgError),
    /// The runtime was shut down.
    #[error("the dataflow runtime has stopped")]
    Stopped,
    /// No dataflow of that id runs.
    #[error("dataflow {0} does not run")]
    UnknownDataflow(ObjectId),
}

impl From<DataflowError> for PgError {
    fn from(error: DataflowError) -> PgError {
        match error {
            DataflowError::Plan(error) => error,
            DataflowError::Stopped => PgError::new(SqlState::ADMIN_SHUTDOWN, error.to_string()),
            error => PgError::internal(error.to_string()),
        }
    }
}
