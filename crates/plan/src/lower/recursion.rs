//! WITH RECURSIVE, as a loop.
//!
//! PostgreSQL defines it by steps: the recursive term sees the rows that the step before added, and the answer is what
//! all steps add. A loop finds the rows `X` with `X = start UNION [ALL] step(X)`. Both are the same where the step's rows
//! come from single rows of `X`: `step(X + Y) = step(X) + step(Y)`. So that is what a recursive term may be made of
//! ([`check_step`]); with UNION ALL it must hold for numbers of copies too, with UNION only for which rows there are.
//!
//! What does not read `X` is lowered outside of the loop and enters it.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Distinct, LogicalPlan, RecursiveQuery};
use repr::PgError;

use super::Lowering;
use crate::dataflow_plan::{Node, NodeId, Operator, Recursion, positional_schema};
use crate::expression::internal;
use crate::graph::Graph;
use crate::mutual_recursion::{IterationLimit, MutualRecursion};
use crate::prune::prune_all;

/// The loop whose body is being lowered.
pub(super) struct Loop {
    /// What it computes, in order.
    results: Vec<LoopRows>,
    /// The graph that the loop will be a node of.
    outside: Graph,
    /// Its nodes that enter the loop.
    inputs: Vec<NodeId>,
}

/// One of a loop's results.
struct LoopRows {
    /// What a scan of its rows is called.
    name: String,
    /// The leaf that its rows of the iteration before are.
    variable: Node,
    /// Its rows of this iteration, once they are lowered.
    current: Option<NodeId>,
}

impl LoopRows {
    fn new(name: &str, index: usize, plan: &LogicalPlan, distinct: bool) -> LoopRows {
        let types: Vec<_> = plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let keys = if distinct { vec![(0..types.len()).collect()] } else { Vec::new() };
        let operator = Operator::Variable { result: index };
        let variable = Node { operator, schema: positional_schema(types), keys, append_only: false };
        LoopRows { name: name.to_string(), variable, current: None }
    }
}

impl Loop {
    /// The leaf of `graph`, the loop's body, for a node outside of it.
    fn enter(&mut self, node: NodeId, graph: &mut Graph) -> NodeId {
        let known = self.inputs.iter().position(|input| *input == node);
        let input = known.unwrap_or_else(|| {
            self.inputs.push(node);
            self.inputs.len() - 1
        });
        let outer = &self.outside.nodes[node];
        let (schema, keys) = (outer.schema.clone(), outer.keys.clone());
        graph.leaf(Node { operator: Operator::Entered { input }, schema, keys, append_only: false })
    }
}

impl Lowering<'_> {
    pub(super) fn recursive_query(&mut self, query: &RecursiveQuery) -> Result<NodeId, PgError> {
        check_step(&query.recursive_term, &query.name, query.is_distinct)?;
        let result = LoopRows::new(&query.name, 0, &query.static_term, query.is_distinct);
        self.looped(vec![result], IterationLimit::default(), |lowering| {
            let start = lowering.plan(&query.static_term)?;
            let step = lowering.plan(&query.recursive_term)?;
            if lowering.graph.types(start) != lowering.graph.types(step) {
                return Err(PgError::internal("the terms of a recursive query have different types"));
            }
            let rows = lowering.graph.union(vec![start, step])?;
            Ok(vec![if query.is_distinct { lowering.graph.distinct(rows)? } else { rows }])
        })
    }

    /// The bindings as one loop, then the query over them.
    pub(super) fn mutual_recursion(&mut self, recursion: &MutualRecursion) -> Result<NodeId, PgError> {
        let named = recursion.names.iter().zip(&recursion.bindings).enumerate();
        let results = named.map(|(index, (name, plan))| LoopRows::new(name, index, plan, false)).collect();
        let first = self.looped(results, recursion.limit, |lowering| {
            let mut nodes = Vec::new();
            for (index, plan) in recursion.bindings.iter().enumerate() {
                let node = lowering.plan(plan)?;
                if let Some(recursion) = &mut lowering.recursion {
                    recursion.results[index].current = Some(node);
                }
                nodes.push(node);
            }
            Ok(nodes)
        })?;
        for (result, name) in recursion.names.iter().enumerate() {
            let node = match result {
                0 => first,
                _ => self.graph.add(Operator::LoopResult { input: first, result })?,
            };
            self.bindings.insert(name.clone(), node);
        }
        self.plan(&recursion.body)
    }

    /// A loop of `results`, whose nodes `lower` adds to its body.
    fn looped(
        &mut self,
        results: Vec<LoopRows>,
        limit: IterationLimit,
        lower: impl FnOnce(&mut Self) -> Result<Vec<NodeId>, PgError>,
    ) -> Result<NodeId, PgError> {
        if self.recursion.is_some() {
            return Err(PgError::unsupported(
                "WITH RECURSIVE within the recursive term of another in a materialized view",
            ));
        }
        let outside = std::mem::take(&mut self.graph);
        self.recursion = Some(Loop { results, outside, inputs: Vec::new() });
        let nodes = lower(self)?;
        let Some(recursion) = self.recursion.take() else {
            return Err(PgError::internal("a loop was closed twice"));
        };
        let inside = std::mem::replace(&mut self.graph, recursion.outside);
        let (inside, results) = prune_all(&inside, &nodes, &HashMap::new())?;
        check_body(&inside)?;
        let body = Box::new(Recursion { nodes: inside.nodes, results, limit });
        self.graph.add(Operator::Recursion { inputs: recursion.inputs, body })
    }

    /// The rows of a loop that a scan calls `name`, if it means such rows: within that loop those of this iteration or of the
    /// one before, outside of it what they are in the end.
    pub(super) fn recursive_rows(&mut self, name: &str) -> Option<NodeId> {
        let Some(recursion) = &self.recursion else { return self.bindings.get(name).copied() };
        let rows = recursion.results.iter().find(|rows| rows.name == name)?;
        Some(rows.current.unwrap_or_else(|| self.graph.leaf(rows.variable.clone())))
    }

    /// Within a loop, a leaf for the rows of `plan` if they do not depend on the loop's: they are computed outside.
    pub(super) fn entered(&mut self, plan: &LogicalPlan) -> Result<Option<NodeId>, PgError> {
        let depends = |recursion: &Loop| recursion.results.iter().any(|rows| reads(plan, &rows.name));
        if self.recursion.as_ref().is_none_or(depends) {
            return Ok(None);
        }
        self.outside(|lowering| lowering.plan(plan)).map(Some)
    }

    /// Rows that never change.
    pub(super) fn constant(&mut self, rows: RecordBatch) -> Result<NodeId, PgError> {
        match self.recursion {
            None => self.graph.constant(rows),
            Some(_) => self.outside(|lowering| lowering.graph.constant(rows)),
        }
    }

    /// The leaf of this loop's body for what `lower` adds outside of the loop.
    fn outside(&mut self, lower: impl FnOnce(&mut Self) -> Result<NodeId, PgError>) -> Result<NodeId, PgError> {
        let Some(mut recursion) = self.recursion.take() else { return lower(self) };
        std::mem::swap(&mut self.graph, &mut recursion.outside);
        let node = lower(self);
        std::mem::swap(&mut self.graph, &mut recursion.outside);
        let leaf = node.map(|node| recursion.enter(node, &mut self.graph));
        self.recursion = Some(recursion);
        leaf
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
    match body.nodes.iter().find(|node| !node.operator.runs_in_loops()) {
        None => Ok(()),
        Some(node) => {
            let text = format!("{:?}", node.operator);
            let what = text.split([' ', '(']).next().unwrap_or_default();
            Err(PgError::unsupported(format!("{what} over a recursive query's own rows in a materialized view")))
        }
    }
}
