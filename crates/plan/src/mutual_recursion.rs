//! WITH MUTUALLY RECURSIVE in a `LogicalPlan`: what the binder makes, what is lowered to a loop and what a one-shot read
//! iterates.
//!
//! Each binding's rows are scanned under a name of its own. All are empty at first; an iteration computes them in order, so that
//! a binding reads what those before it have become and what the others were; iterations end when one changes nothing, or
//! at a limit.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, DataFusionError};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use repr::{PgError, SqlState};

/// Iterations after which a loop without a limit of its own is given up as endless.
pub const ITERATIONS_MAX: u64 = 100_000;

/// When a loop ends that has not come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IterationLimit {
    /// After so many iterations, at least one.
    pub count: u64,
    /// Whether what the last of them gives is the answer; otherwise it is an error if that one changes anything.
    pub returns: bool,
}

impl Default for IterationLimit {
    fn default() -> IterationLimit {
        IterationLimit { count: ITERATIONS_MAX, returns: false }
    }
}

impl IterationLimit {
    /// What there is to say of a loop that does not end.
    pub fn error(&self) -> PgError {
        let message =
            format!("recursive query does not end within {} iterations, or has too many copies of a row", self.count);
        PgError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
    }
}

/// Relations that read each other, and a query over them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MutualRecursion {
    /// What each relation is scanned as. The names are of no relation.
    pub names: Vec<String>,
    /// What computes each, of the columns that its scans have.
    pub bindings: Vec<LogicalPlan>,
    /// The query over what they are in the end.
    pub body: LogicalPlan,
    /// When iterations end.
    pub limit: IterationLimit,
}

impl MutualRecursion {
    /// The plan that this is a node of.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// Of a plan, if this is its root.
    pub fn of(plan: &LogicalPlan) -> Option<&MutualRecursion> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<MutualRecursion>(),
            _ => None,
        }
    }
}

impl PartialOrd for MutualRecursion {
    fn partial_cmp(&self, other: &MutualRecursion) -> Option<Ordering> {
        (&self.names, &self.bindings, &self.body, self.limit).partial_cmp(&(
            &other.names,
            &other.bindings,
            &other.body,
            other.limit,
        ))
    }
}

impl UserDefinedLogicalNodeCore for MutualRecursion {
    fn name(&self) -> &str {
        "MutualRecursion"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.bindings.iter().chain([&self.body]).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.body.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MutualRecursion: {}", self.names.join(", "))
    }

    fn with_exprs_and_inputs(
        &self,
        _: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<MutualRecursion, DataFusionError> {
        match inputs.pop() {
            Some(body) if inputs.len() == self.bindings.len() => {
                Ok(MutualRecursion { names: self.names.clone(), bindings: inputs, body, limit: self.limit })
            }
            _ => Err(DataFusionError::Internal("a loop with another number of relations".to_string())),
        }
    }
}
