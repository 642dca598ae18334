//! WITH RECURSIVE, as a loop.
//!
//! PostgreSQL defines it by steps: the recursive term sees the rows that the step before added, and the answer is what
//! all steps add. A loop finds the rows `X` with `X = start UNION [ALL] step(X)`. Both are the same where the step's rows
//! come from single rows of `X`: `step(X + Y) = step(X) + step(Y)`. So that is what a recursive term may be made of
//! ([`check_step`]); with UNION ALL it must hold for numbers of copies too, with UNION only for which rows there are.
//!
//! What does not read `X` is lowered outside of the loop and enters it.

use std::collections::HashMap;

use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Distinct, LogicalPlan, RecursiveQuery};
use repr::PgError;

use super::Lowering;
use crate::dataflow_plan::{Node, NodeId, Operator, Recursion, positional_schema};
use crate::expression::internal;
use crate::graph::Graph;
use crate::prune::prune;

/// Iterations after which a loop is given up as endless.
const ITERATIONS_MAX: u64 = 100_000;

/// The loop whose body is being lowered.
pub(super) struct Loop {
    /// What a scan of its own rows is called.
    name: String,
    /// The leaf that those rows are.
    variable: Node,
    /// The graph that the loop will be a node of.
    outside: Graph,
    /// Its nodes that enter the loop.
    inputs: Vec<NodeId>,
}

impl Lowering<'_> {
    pub(super) fn recursive_query(&mut self, query: &RecursiveQuery) -> Result<NodeId, PgError> {
        if self.recursion.is_some() {
            return Err(PgError::unsupported(
                "WITH RECURSIVE within the recursive term of another in a materialized view",
            ));
        }
        check_step(&query.recursive_term, &query.name, query.is_distinct)?;
        let types: Vec<_> = query.static_term.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let keys = if query.is_distinct { vec![(0..types.len()).collect()] } else { Vec::new() };
        let schema = positional_schema(types);
        let variable = Node { operator: Operator::Variable, schema, keys, append_only: false };
        let outside = std::mem::take(&mut self.graph);
        self.recursion = Some(Loop { name: query.name.clone(), variable, outside, inputs: Vec::new() });
        let result = self.loop_result(query);
        let Some(recursion) = self.recursion.take() else {
            return Err(PgError::internal("a loop was closed twice"));
        };
        let inside = std::mem::replace(&mut self.graph, recursion.outside);
        let (inside, result) = prune(&inside, result?, &HashMap::new())?;
        check_body(&inside)?;
        let body = Recursion { nodes: inside.nodes, result, iteration_limit: ITERATIONS_MAX };
        self.graph.add(Operator::Recursion { inputs: recursion.inputs, body: Box::new(body) })
    }

    fn loop_result(&mut self, query: &RecursiveQuery) -> Result<NodeId, PgError> {
        let start = self.plan(&query.static_term)?;
        let step = self.plan(&query.recursive_term)?;
        if self.graph.types(start) != self.graph.types(step) {
            return Err(PgError::internal("the terms of a recursive query have different types"));
        }
        let rows = self.graph.union(vec![start, step])?;
        if query.is_distinct { self.graph.distinct(rows) } else { Ok(rows) }
    }

    /// The leaf for a scan called `name`, if that is the loop's own rows.
    pub(super) fn variable(&mut self, name: &str) -> Option<NodeId> {
        let recursion = self.recursion.as_ref().filter(|recursion| recursion.name == name)?;
        Some(self.graph.leaf(recursion.variable.clone()))
    }

    /// Within a loop, a leaf for the rows of `plan` if they do not depend on the loop's: they are computed outside.
    pub(super) fn entered(&mut self, plan: &LogicalPlan) -> Result<Option<NodeId>, PgError> {
        let Some(mut recursion) = self.recursion.take_if(|recursion| !reads(plan, &recursion.name)) else {
            return Ok(None);
        };
        std::mem::swap(&mut self.graph, &mut recursion.outside);
        let node = self.plan(plan);
        std::mem::swap(&mut self.graph, &mut recursion.outside);
        let leaf = node.map(|node| {
            let known = recursion.inputs.iter().position(|input| *input == node);
            let input = known.unwrap_or_else(|| {
                recursion.inputs.push(node);
                recursion.inputs.len() - 1
            });
            let outer = &recursion.outside.nodes[node];
            let (schema, keys) = (outer.schema.clone(), outer.keys.clone());
            self.graph.leaf(Node { operator: Operator::Entered { input }, schema, keys, append_only: false })
        });
        self.recursion = Some(recursion);
        leaf.map(Some)
    }
}

/// Whether `plan` scans the rows called `name`.
fn reads(plan: &LogicalPlan, name: &str) -> bool {
    let is_scan =
        |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.table() == name));
    plan.exists(is_scan).map_err(internal).unwrap_or(true)
}

/// Whether each row of `plan` comes from one row called `name`, whatever other such rows there are.
fn check_step(plan: &LogicalPlan, name: &str, distinct: bool) -> Result<(), PgError> {
    if !reads(plan, name) {
        return Ok(());
    }
    let unsupported = |what: &str| {
        Err(PgError::unsupported(format!("{what} in the recursive term of WITH RECURSIVE in a materialized view")))
    };
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_some() => return unsupported("LIMIT"),
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => return unsupported("LIMIT"),
        LogicalPlan::TableScan(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Unnest(_) => {}
        LogicalPlan::Distinct(Distinct::All(_)) if distinct => {}
        LogicalPlan::Distinct(Distinct::All(_)) => return unsupported("DISTINCT with UNION ALL"),
        LogicalPlan::Distinct(Distinct::On(_)) => return unsupported("DISTINCT ON"),
        LogicalPlan::Union(union) => {
            if !distinct && union.inputs.iter().any(|input| !reads(input, name)) {
                return unsupported("a part that adds the same rows again and again");
            }
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (reads(&join.left, name), reads(&join.right, name));
            if left && right {
                return unsupported("a join of the query with itself");
            }
            match join.join_type {
                JoinType::Inner => {}
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark if left => {}
                JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark if right => {}
                JoinType::Left | JoinType::Right | JoinType::Full => {
                    return unsupported("a reference to the query itself within an outer join");
                }
                _ => return unsupported("a reference to the query itself within a subquery"),
            }
        }
        LogicalPlan::Aggregate(aggregate) if distinct && aggregate.aggr_expr.is_empty() => {}
        LogicalPlan::Aggregate(_) => return unsupported("GROUP BY or an aggregate"),
        LogicalPlan::Window(_) => return unsupported("a window function"),
        LogicalPlan::Limit(_) => return unsupported("LIMIT"),
        _ => return unsupported("this construct"),
    }
    plan.inputs().into_iter().try_for_each(|input| check_step(input, name, distinct))
}

/// Whether the body has only operators that run in loops.
fn check_body(body: &Graph) -> Result<(), PgError> {
    let runs = |operator: &Operator| {
        matches!(
            operator,
            Operator::Entered { .. }
                | Operator::Variable
                | Operator::Map { .. }
                | Operator::Unnest { .. }
                | Operator::Union { .. }
                | Operator::Negate { .. }
                | Operator::Arrange { .. }
                | Operator::Join { .. }
                | Operator::Distinct { .. }
                | Operator::Threshold { .. }
        )
    };
    match body.nodes.iter().find(|node| !runs(&node.operator)) {
        None => Ok(()),
        Some(node) => {
            let text = format!("{:?}", node.operator);
            let what = text.split([' ', '(']).next().unwrap_or_default();
            Err(PgError::unsupported(format!("{what} in the recursive term of WITH RECURSIVE in a materialized view")))
        }
    }
}
