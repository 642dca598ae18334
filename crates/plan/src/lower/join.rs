//! Joins, out of one inner operator and multiplicities.
//!
//! ```text
//! inner   L >< R          matched(L): the rows of L that meet a row of R, as often as they are in L
//! left    L >< R  +  pad(L)  -  pad(matched(L))
//! full    the same  +  pad(R)  -  pad(matched(R))
//! semi    matched(L)      anti  L - matched(L)      mark  (matched(L), true) + (L, false) - (matched(L), false)
//! ```
//!
//! `matched(L)` is `L` joined with the distinct keys of `R`, so it uses the arrangement of `L` that the inner join has.
//! A NULL key meets nothing, so it is in no `matched` and such a row is unmatched, as SQL wants. Conditions about one
//! side alone only restrict that side's rows. Where the key is unique in `R` the inner join has the matched rows
//! already. Only a condition about both sides, on a key that is not, needs more: then the matched rows themselves are
//! made distinct, by their key if they have one, and `L` is joined with those.

use arrow::datatypes::DataType;
use datafusion::common::{JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, Operator as Comparison};
use repr::PgError;

use super::Lowering;
use crate::clock::reads_clock;
use crate::dataflow_plan::{NodeId, Operator, column};
use crate::expression::{
    all_columns, cast, conjuncts, internal, literal, null, position, positions, resolve, resolve_condition, substitute,
    substitute_all, type_of,
};
use crate::graph::Graph;

/// A condition that two expressions, one over each side, are equal.
#[derive(Clone)]
struct Pair {
    left: Expr,
    right: Expr,
    /// IS NOT DISTINCT FROM.
    null_equal: bool,
}

/// What a join asks besides its keys, over left columns followed by right ones.
#[derive(Default)]
struct Conditions {
    plain: Vec<Expr>,
    clock: ClockConditions,
}

/// Conditions on the clock.
#[derive(Default)]
struct ClockConditions {
    /// About the left side alone.
    left: Vec<Expr>,
    /// About the right side alone, over its own columns.
    right: Vec<Expr>,
    /// About both sides of an inner join.
    both: Vec<Expr>,
}

/// One side of a join.
struct Side {
    /// Its rows, computed keys appended.
    rows: NodeId,
    /// Its columns without those.
    width: usize,
    types: Vec<DataType>,
    /// The key's positions.
    key: Vec<usize>,
    /// `rows` arranged by it.
    arranged: NodeId,
    /// Conditions about this side alone.
    own: Vec<Expr>,
}

/// A join ready to be built.
struct Sides {
    left: Side,
    right: Side,
    null_equal: bool,
    /// Conditions about both sides, over `left.rows` then `right.rows`.
    both: Vec<Expr>,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<NodeId, PgError> {
        if join.null_aware {
            return Err(PgError::unsupported("NOT IN as a null-aware join in a materialized view"));
        }
        if let Some(node) = self.multi_join(join)? {
            return Ok(node);
        }
        let Conditions { plain, clock } = self.conditions(join)?;
        let sides = self.sides(join, plain, &clock)?;
        let (left, right) = (&sides.left, &sides.right);
        let graph = &mut self.graph;
        match join.join_type {
            JoinType::Inner => {
                let inner = sides.inner(graph)?;
                graph.filter(inner, clock.both)
            }
            JoinType::Left => sides.outer(graph, true, false),
            JoinType::Right => sides.outer(graph, false, true),
            JoinType::Full => sides.outer(graph, true, true),
            JoinType::LeftSemi => sides.matched(graph, left, all_columns(left.width)),
            JoinType::RightSemi => sides.matched(graph, right, all_columns(right.width)),
            JoinType::LeftAnti => sides.unmatched(graph, left),
            JoinType::RightAnti => sides.unmatched(graph, right),
            JoinType::LeftMark => sides.marked(graph, left),
            JoinType::RightMark => sides.marked(graph, right),
        }
    }

    /// What a join asks besides its keys. A condition on the clock about one side alone, which need not keep the rows that
    /// meet nothing, restricts that side; an inner join may have others.
    fn conditions(&self, join: &Join) -> Result<Conditions, PgError> {
        let left_width = join.left.schema().fields().len();
        let mut conditions = Conditions::default();
        let Some(filter) = &join.filter else { return Ok(conditions) };
        use JoinType::*;
        for condition in conjuncts(resolve_condition(filter, &[join.left.schema(), join.right.schema()])?) {
            let reads = positions(&condition);
            if !reads_clock(&condition) {
                conditions.plain.push(condition);
            } else if reads.iter().all(|index| *index >= left_width)
                && matches!(join.join_type, Inner | Left | LeftSemi | LeftAnti | LeftMark | RightSemi)
            {
                conditions.clock.right.push(substitute(condition, &|index| column(index - left_width))?);
            } else if reads.iter().all(|index| *index < left_width)
                && matches!(join.join_type, Inner | Right | RightSemi | RightAnti | RightMark | LeftSemi)
            {
                conditions.clock.left.push(condition);
            } else if join.join_type == Inner {
                conditions.clock.both.push(condition);
            } else {
                let message =
                    "now() in the condition of an outer join or EXISTS about both sides in a materialized view";
                return Err(PgError::unsupported(message)
                    .with_hint("Compare now() with columns of one side, or in WHERE above the join."));
            }
        }
        Ok(conditions)
    }

    fn sides(&mut self, join: &Join, plain: Vec<Expr>, clock: &ClockConditions) -> Result<Sides, PgError> {
        let left = self.plan(&join.left)?;
        let left = self.graph.filter(left, clock.left.clone())?;
        let right = self.plan(&join.right)?;
        let right = self.graph.filter(right, clock.right.clone())?;
        let (left_width, right_width) = (self.graph.width(left), self.graph.width(right));
        let (left_types, right_types) = (self.graph.types(left), self.graph.types(right));
        let both_schema =
            crate::dataflow_plan::positional_schema(left_types.iter().cloned().chain(right_types.iter().cloned()));

        let (mut pairs, mut conditions) = (Vec::new(), Vec::new());
        let on_null_equal = join.null_equality == NullEquality::NullEqualsNull;
        for (left, right) in &join.on {
            let left = resolve(left, &[join.left.schema()])?;
            let right = resolve(right, &[join.right.schema()])?;
            pairs.push(Pair { left, right, null_equal: on_null_equal });
        }
        for condition in plain {
            match equal_pair(&condition, left_width, &both_schema)? {
                Some(pair) => pairs.push(pair),
                None => conditions.push(condition),
            }
        }
        // One operator treats NULLs one way; where both ways occur the stricter pairs say that their key is not NULL.
        let null_equal = pairs.iter().any(|pair| pair.null_equal);
        let (mut left_own, mut right_own, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for pair in pairs.iter().filter(|pair| null_equal && !pair.null_equal) {
            left_own.push(Expr::IsNotNull(Box::new(pair.left.clone())));
        }
        for condition in conditions {
            let reads = positions(&condition);
            if reads.iter().all(|index| *index < left_width) {
                left_own.push(condition);
            } else if reads.iter().all(|index| *index >= left_width) {
                right_own.push(substitute(condition, &|index| column(index - left_width))?);
            } else {
                both.push(condition);
            }
        }
        let (left_schema, right_schema) = (self.graph.schema(left), self.graph.schema(right));
        for pair in &mut pairs {
            let types = (type_of(&pair.left, &left_schema)?, type_of(&pair.right, &right_schema)?);
            (pair.left, pair.right) = of_one_type(pair.left.clone(), pair.right.clone(), types)?;
        }
        self.in_export_order(left, right, &mut pairs);
        let left = self.side(left, left_types, pairs.iter().map(|pair| pair.left.clone()).collect(), left_own)?;
        let right = self.side(right, right_types, pairs.iter().map(|pair| pair.right.clone()).collect(), right_own)?;
        // Computed keys have moved the right side's columns.
        let offset = self.graph.width(left.rows);
        let moved = |index: usize| if index < left_width { column(index) } else { column(index - left_width + offset) };
        debug_assert_eq!(right.width, right_width);
        Ok(Sides { left, right, null_equal, both: substitute_all(&both, &moved)? })
    }

    fn side(&mut self, node: NodeId, types: Vec<DataType>, key: Vec<Expr>, own: Vec<Expr>) -> Result<Side, PgError> {
        let width = types.len();
        let (rows, key) = self.graph.extend(node, &key)?;
        let arranged = self.graph.arrange(rows, key.clone())?;
        Ok(Side { rows, width, types, key, arranged, own })
    }

    /// Orders the pairs as one side's relation exports them, so that its own arrangement can serve.
    fn in_export_order(&self, left: NodeId, right: NodeId, pairs: &mut Vec<Pair>) {
        let exported = |node: NodeId, exprs: Vec<&Expr>| -> Option<Vec<usize>> {
            let export = exported_columns(&self.graph, node)?;
            let order: Option<Vec<usize>> =
                export.iter().map(|index| exprs.iter().position(|expr| position(expr) == Some(*index))).collect();
            order.filter(|order| order.len() == exprs.len())
        };
        let order = exported(right, pairs.iter().map(|pair| &pair.right).collect())
            .or_else(|| exported(left, pairs.iter().map(|pair| &pair.left).collect()));
        if let Some(order) = order {
            *pairs = order.into_iter().map(|index| pairs[index].clone()).collect();
        }
    }
}

/// Two expressions of these types, to be compared with each other.
pub(super) fn of_one_type(
    left: Expr,
    right: Expr,
    (left_type, right_type): (DataType, DataType),
) -> Result<(Expr, Expr), PgError> {
    if left_type == right_type {
        return Ok((left, right));
    }
    let coercer = BinaryTypeCoercer::new(&left_type, &Comparison::Eq, &right_type);
    let (to, _) = coercer.get_input_types().map_err(internal)?;
    Ok((cast(left, &left_type, &to), cast(right, &right_type, &to)))
}

/// The columns of `node` that its relation's own arrangement is keyed by, where `node` only picks columns of a
/// relation.
pub(super) fn exported_columns(graph: &Graph, node: NodeId) -> Option<Vec<usize>> {
    match &graph.nodes[node].operator {
        Operator::Import { key, .. } => Some(key.clone()),
        Operator::Map { input, filter, columns } if filter.is_empty() => {
            let Operator::Import { key, .. } = &graph.nodes[*input].operator else { return None };
            key.iter().map(|index| columns.iter().position(|expr| position(expr) == Some(*index))).collect()
        }
        _ => None,
    }
}

/// `condition` as a pair, if it says that something of the left side equals something of the right.
fn equal_pair(condition: &Expr, left_width: usize, both: &arrow::datatypes::Schema) -> Result<Option<Pair>, PgError> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return Ok(None) };
    let null_equal = match op {
        Comparison::Eq => false,
        Comparison::IsNotDistinctFrom => true,
        _ => return Ok(None),
    };
    let (left_reads, right_reads) = (positions(left), positions(right));
    let on_left = |reads: &std::collections::BTreeSet<usize>| reads.iter().all(|index| *index < left_width);
    let on_right = |reads: &std::collections::BTreeSet<usize>| reads.iter().all(|index| *index >= left_width);
    if left_reads.is_empty() || right_reads.is_empty() || type_of(left, both)? != type_of(right, both)? {
        return Ok(None);
    }
    let (left, right) = if on_left(&left_reads) && on_right(&right_reads) {
        (left, right)
    } else if on_right(&left_reads) && on_left(&right_reads) {
        (right, left)
    } else {
        return Ok(None);
    };
    let right = substitute(right.as_ref().clone(), &|index| column(index - left_width))?;
    Ok(Some(Pair { left: left.as_ref().clone(), right, null_equal }))
}

impl Sides {
    /// Columns of the left side, then of the right one, over the rows of both.
    fn columns(&self, graph: &Graph) -> Vec<Expr> {
        let offset = graph.width(self.left.rows);
        all_columns(self.left.width)
            .into_iter()
            .chain((0..self.right.width).map(|index| column(offset + index)))
            .collect()
    }

    fn inner(&self, graph: &mut Graph) -> Result<NodeId, PgError> {
        let offset = graph.width(self.left.rows);
        let mut filter = self.left.own.clone();
        filter.extend(substitute_all(&self.right.own, &|index| column(offset + index))?);
        filter.extend(self.both.iter().cloned());
        let columns = self.columns(graph);
        graph.add(Operator::Join {
            left: self.left.arranged,
            right: self.right.arranged,
            null_equal: self.null_equal,
            filter,
            columns,
        })
    }

    fn is_left(&self, side: &Side) -> bool {
        std::ptr::eq(side, &self.left)
    }

    fn other(&self, side: &Side) -> &Side {
        if self.is_left(side) { &self.right } else { &self.left }
    }

    /// Whether a row of `side` meets at most one row.
    fn meets_one(&self, graph: &Graph, side: &Side) -> bool {
        let other = self.other(side);
        graph.is_unique(other.rows, &other.key)
    }

    /// The rows of `side` that meet a row of the other, each as often as it is there; `columns` of them.
    fn matched(&self, graph: &mut Graph, side: &Side, columns: Vec<Expr>) -> Result<NodeId, PgError> {
        let node = if self.meets_one(graph, side) {
            // Then the inner join has each matched row exactly once already.
            let inner = self.inner(graph)?;
            let offset = if self.is_left(side) { 0 } else { self.left.width };
            let columns = substitute_all(&columns, &|index| column(offset + index))?;
            graph.map(inner, Vec::new(), columns)?
        } else if self.both.is_empty() {
            self.matched_by_key(graph, side, columns.clone())?
        } else {
            self.matched_by_row(graph, side, columns.clone())?
        };
        declare_subset(graph, node, side, &columns);
        Ok(node)
    }

    fn matched_by_key(&self, graph: &mut Graph, side: &Side, columns: Vec<Expr>) -> Result<NodeId, PgError> {
        let other = self.other(side);
        let key = other.key.iter().map(|index| column(*index)).collect();
        let keys = graph.map(other.rows, other.own.clone(), key)?;
        let keys = graph.distinct(keys)?;
        let right = graph.arrange(keys, (0..other.key.len()).collect())?;
        let filter = side.own.clone();
        graph.add(Operator::Join { left: side.arranged, right, null_equal: self.null_equal, filter, columns })
    }

    fn matched_by_row(&self, graph: &mut Graph, side: &Side, columns: Vec<Expr>) -> Result<NodeId, PgError> {
        let inner = self.inner(graph)?;
        let offset = if self.is_left(side) { 0 } else { self.left.width };
        // What tells one row from another: its key, or all of it.
        let key = graph.keys_placed(side.rows, side.width, 0).into_iter().min_by_key(Vec::len);
        let identity = key.unwrap_or_else(|| (0..side.width).collect());
        let found: Vec<usize> = identity.iter().map(|index| offset + index).collect();
        let found = graph.project(inner, &found)?;
        let found = graph.distinct(found)?;
        let found = graph.arrange(found, (0..identity.len()).collect())?;
        let rows = graph.arrange(side.rows, identity)?;
        graph.add(Operator::Join { left: rows, right: found, null_equal: true, filter: Vec::new(), columns })
    }

    fn unmatched(&self, graph: &mut Graph, side: &Side) -> Result<NodeId, PgError> {
        let rows = graph.map(side.rows, Vec::new(), all_columns(side.width))?;
        let matched = self.matched(graph, side, all_columns(side.width))?;
        let matched = graph.negate(matched)?;
        let node = graph.union(vec![rows, matched])?;
        declare_subset(graph, node, side, &all_columns(side.width));
        Ok(node)
    }

    fn marked(&self, graph: &mut Graph, side: &Side) -> Result<NodeId, PgError> {
        let with_mark = |mark: bool| {
            let mut columns = all_columns(side.width);
            columns.push(literal(ScalarValue::Boolean(Some(mark))));
            columns
        };
        let matched = self.matched(graph, side, all_columns(side.width))?;
        let all = graph.map(side.rows, Vec::new(), with_mark(false))?;
        let wrong = graph.map(matched, Vec::new(), with_mark(false))?;
        let wrong = graph.negate(wrong)?;
        let right = graph.map(matched, Vec::new(), with_mark(true))?;
        let node = graph.union(vec![right, all, wrong])?;
        declare_subset(graph, node, side, &all_columns(side.width));
        Ok(node)
    }

    /// The inner join, and the unmatched rows of the sides that are kept whole.
    fn outer(&self, graph: &mut Graph, keep_left: bool, keep_right: bool) -> Result<NodeId, PgError> {
        let mut parts = vec![self.inner(graph)?];
        if keep_left {
            self.pad(graph, &self.left, &mut parts)?;
        }
        if keep_right {
            self.pad(graph, &self.right, &mut parts)?;
        }
        let node = graph.union(parts)?;
        if keep_left != keep_right {
            let (kept, other, kept_at, other_at) = match keep_left {
                true => (&self.left, &self.right, 0, self.left.width),
                false => (&self.right, &self.left, self.left.width, 0),
            };
            self.declare_outer_keys(graph, node, (kept, kept_at), (other, other_at));
        }
        Ok(node)
    }

    /// Adds the rows of `side` with NULLs for the other, and takes away those that are matched.
    fn pad(&self, graph: &mut Graph, side: &Side, parts: &mut Vec<NodeId>) -> Result<(), PgError> {
        let nulls = self.other(side).types.iter().map(null).collect::<Result<Vec<_>, _>>()?;
        let padded = |own: Vec<Expr>| -> Vec<Expr> {
            match self.is_left(side) {
                true => own.into_iter().chain(nulls.iter().cloned()).collect(),
                false => nulls.iter().cloned().chain(own).collect(),
            }
        };
        let all = graph.map(side.rows, Vec::new(), padded(all_columns(side.width)))?;
        let matched = self.matched(graph, side, padded(all_columns(side.width)))?;
        let matched = graph.negate(matched)?;
        parts.extend([all, matched]);
        Ok(())
    }

    fn declare_outer_keys(
        &self,
        graph: &mut Graph,
        node: NodeId,
        (kept, kept_at): (&Side, usize),
        (other, other_at): (&Side, usize),
    ) {
        let kept_keys = graph.keys_placed(kept.rows, kept.width, kept_at);
        let other_keys = graph.keys_placed(other.rows, other.width, other_at);
        if self.meets_one(graph, kept) {
            kept_keys.iter().for_each(|key| graph.declare_key(node, key.clone()));
        }
        for kept_key in &kept_keys {
            for other_key in &other_keys {
                graph.declare_key(node, kept_key.iter().chain(other_key).copied().collect());
            }
        }
    }
}

/// `node` holds `columns` of some of the rows of `side`.
fn declare_subset(graph: &mut Graph, node: NodeId, side: &Side, columns: &[Expr]) {
    for key in graph.nodes[side.rows].keys.clone() {
        let place = |index: &usize| columns.iter().position(|expr| position(expr) == Some(*index));
        if let Some(key) = key.iter().map(place).collect() {
            graph.declare_key(node, key);
        }
    }
}
