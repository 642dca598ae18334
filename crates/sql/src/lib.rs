//! SQL text to a bound statement: `parse` text into an AST, `bind` it by PostgreSQL's rules into a DataFusion `LogicalPlan`
//! against a snapshot of the catalog, `optimize` the plan.
//!
//! Nothing here does I/O, reads a clock or is async: the same text against the same catalog gives the same plan.

pub mod bind;
pub mod cast;
mod clock_bounds;
pub mod functions;
pub mod literal;
pub mod operators;
pub mod optimize;
pub mod parse;
pub mod statement;
pub mod typed;

pub use optimize::{Purpose, optimize};
pub use parse::{Ast, Statement, parse, parse_query};
pub use statement::{BoundStatement, bind};
