//! Filters, and the window functions they make cheap: `row_number() <= k` is a top-k of each partition, `rank() <= k` and
//! `dense_rank() <= k` its top ranks.
//!
//! The number itself is computed only where something reads it, over the few rows that are left.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, LogicalPlan, Operator as Comparison, Projection, Window, expr, lit,
};
use repr::PgError;

use super::top_k::resolve_order;
use super::{Lowering, resolve_all};
use crate::dataflow_plan::{NodeId, column};
use crate::expression::{
    all_columns, cast, conjuncts, literal, position, positions, resolve_condition, substitute_all,
};

impl Lowering<'_> {
    pub(super) fn filter(&mut self, filter: &Filter) -> Result<NodeId, PgError> {
        let conditions = conjuncts(resolve_condition(&filter.predicate, &[filter.input.schema()])?);
        if let Some(node) = self.first_of_partitions(&filter.input, &conditions)? {
            return Ok(node);
        }
        let input = self.plan(&filter.input)?;
        self.graph.filter(input, conditions)
    }

    /// The rows of `plan` where `conditions` hold, if it is a window function whose row number they bound.
    fn first_of_partitions(&mut self, plan: &LogicalPlan, conditions: &[Expr]) -> Result<Option<NodeId>, PgError> {
        let mut projections: Vec<&Projection> = Vec::new();
        let mut conditions = conditions.to_vec();
        let mut plan = plan;
        loop {
            match plan {
                LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
                LogicalPlan::Projection(projection) => {
                    let Ok(columns) = resolve_all(&projection.expr, projection.input.schema()) else { return Ok(None) };
                    conditions = substitute_all(&conditions, &|index| columns[index].clone())?;
                    projections.push(projection);
                    plan = &projection.input;
                }
                LogicalPlan::Filter(filter) => {
                    let mut below = conjuncts(resolve_condition(&filter.predicate, &[filter.input.schema()])?);
                    below.append(&mut conditions);
                    conditions = below;
                    plan = &filter.input;
                }
                LogicalPlan::Window(window) => {
                    let Some(mut node) = self.numbered_rows(window, &conditions)? else { return Ok(None) };
                    for projection in projections.iter().rev() {
                        let columns = resolve_all(&projection.expr, projection.input.schema())?;
                        node = self.graph.map(node, Vec::new(), columns)?;
                    }
                    return Ok(Some(node));
                }
                _ => return Ok(None),
            }
        }
    }

    fn numbered_rows(&mut self, window: &Window, conditions: &[Expr]) -> Result<Option<NodeId>, PgError> {
        let [expr] = window.window_expr.as_slice() else { return Ok(None) };
        let Some(call) = ranking_call(expr) else { return Ok(None) };
        if !call.fun.name().eq_ignore_ascii_case("row_number") {
            return self.ranked_rows(window, call, conditions);
        }
        let schema = window.input.schema();
        let width = schema.fields().len();
        let mut bounds = Bounds { first: 1, last: None };
        let mut further = Vec::new();
        for condition in conditions {
            if !bounds.narrow(condition, width) {
                further.push(condition.clone());
            }
        }
        if bounds.last.is_none() && bounds.first == 1 {
            return Ok(None);
        }
        let input = self.plan(&window.input)?;
        let key = resolve_all(&call.params.partition_by, schema)?;
        let order = resolve_order(&call.params.order_by, schema)?;
        let offset = (bounds.first - 1) as u64;
        let limit = bounds.last.map(|last| last.saturating_sub(bounds.first).saturating_add(1).max(0) as u64);
        let top = self.top_k(input, &key, order, offset, limit)?;
        let number = window.schema.field(width).data_type().clone();
        let numbered = match limit {
            Some(1) => {
                let value = literal(ScalarValue::Int64(Some(bounds.first)));
                let mut columns = all_columns(width);
                columns.push(cast(value, &DataType::Int64, &number));
                self.graph.map(top, Vec::new(), columns)?
            }
            _ => {
                let counted = self.window_over(top, &[window])?;
                let mut columns = all_columns(width);
                let skipped = cast(lit(offset), &DataType::UInt64, &number);
                columns.push(if offset == 0 { column(width) } else { column(width) + skipped });
                self.graph.map(counted, Vec::new(), columns)?
            }
        };
        self.graph.filter(numbered, further).map(Some)
    }

    /// The same for ranks, which are counted anew among the rows that are left: none before them is missing.
    fn ranked_rows(
        &mut self,
        window: &Window,
        call: &expr::WindowFunction,
        conditions: &[Expr],
    ) -> Result<Option<NodeId>, PgError> {
        let schema = window.input.schema();
        let width = schema.fields().len();
        let mut bounds = Bounds { first: 1, last: None };
        let mut further = Vec::new();
        for condition in conditions {
            let (first, narrowed) = (bounds.first, bounds.narrow(condition, width));
            if !narrowed || bounds.first > first {
                further.push(condition.clone());
            }
        }
        let order = resolve_order(&call.params.order_by, schema)?;
        let Some(last) = bounds.last.filter(|last| *last > 0 && !order.is_empty()) else { return Ok(None) };
        let input = self.plan(&window.input)?;
        let key = resolve_all(&call.params.partition_by, schema)?;
        let dense = call.fun.name().eq_ignore_ascii_case("dense_rank");
        let top = self.top_ranks(input, &key, order, last as u64, dense)?;
        let ranked = self.window_over(top, &[window])?;
        self.graph.filter(ranked, further).map(Some)
    }
}

/// `row_number`, `rank` or `dense_rank`, inside aliases.
fn ranking_call(expr: &Expr) -> Option<&expr::WindowFunction> {
    let known = |name: &str| matches!(name, "row_number" | "rank" | "dense_rank");
    match expr {
        Expr::Alias(alias) => ranking_call(&alias.expr),
        Expr::WindowFunction(call) if known(&call.fun.name().to_lowercase()) => Some(call),
        _ => None,
    }
}

/// The row numbers that remain, both ends included.
struct Bounds {
    first: i64,
    last: Option<i64>,
}

impl Bounds {
    /// Takes `condition` in if it only bounds column `number` by a constant.
    fn narrow(&mut self, condition: &Expr, number: usize) -> bool {
        let (low, high) = match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (op, bound) =
                    match (is_number(left, number), integer(right), integer(left), is_number(right, number)) {
                        (true, Some(bound), ..) => (Some(*op), bound),
                        (_, _, Some(bound), true) => (op.swap(), bound),
                        _ => return false,
                    };
                match op {
                    Some(Comparison::LtEq) => (None, Some(bound)),
                    Some(Comparison::Lt) => (None, Some(bound.saturating_sub(1))),
                    Some(Comparison::Eq) => (Some(bound), Some(bound)),
                    Some(Comparison::GtEq) => (Some(bound), None),
                    Some(Comparison::Gt) => (Some(bound.saturating_add(1)), None),
                    _ => return false,
                }
            }
            Expr::Between(between) if !between.negated && is_number(&between.expr, number) => {
                match (integer(&between.low), integer(&between.high)) {
                    (Some(low), Some(high)) => (Some(low), Some(high)),
                    _ => return false,
                }
            }
            _ => return false,
        };
        self.first = self.first.max(low.unwrap_or(1));
        if let Some(high) = high {
            self.last = Some(self.last.map_or(high, |last| last.min(high)));
        }
        true
    }
}

/// Whether `expr` is column `number`, possibly in another integer type.
fn is_number(expr: &Expr, number: usize) -> bool {
    match expr {
        Expr::Cast(cast) if cast.field.data_type().is_integer() => is_number(&cast.expr, number),
        Expr::TryCast(cast) if cast.field.data_type().is_integer() => is_number(&cast.expr, number),
        expr => position(expr) == Some(number),
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Cast(cast) if cast.field.data_type().is_integer() && positions(expr).is_empty() => integer(&cast.expr),
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(value)) => value,
            _ => None,
        },
        _ => None,
    }
}
