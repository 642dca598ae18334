//! From a bound query to the dataflow that maintains it. Pure: same plan in, same dataflow out.
//!
//! ```text
//! LogicalPlan --lower--> graph of operators --prune--> --share--> DataflowPlan of the view
//!                                                          `----> DataflowPlan of each arrangement it shares
//! ```
//!
//! [`lower()`] takes DataFusion's `LogicalPlan` as `sql` bound and optimised it; [`relation_plan`] and [`index_plan`]
//! give a table's and an index's dataflow; [`explain()`] prints them.

pub mod clock;
pub mod dataflow_plan;
mod explain;
mod expression;
mod graph;
mod lower;
pub mod mutual_recursion;
mod properties;
mod prune;
pub mod reach;
mod share;
mod window_close;

pub use dataflow_plan::{Aggregate, DataflowPlan, Export, Node, NodeId, Operator, Percentile, Recursion, SortKey};
pub use explain::explain;
pub use lower::{LowerContext, Relation, index_plan, lower, relation_plan};
pub use share::{Fingerprint, SharedArrangement};
pub use window_close::emit_on_window_close;
