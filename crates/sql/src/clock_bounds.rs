//! What a condition on the clock about one input of a join says about the others.
//!
//! ```text
//! FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '10 min' WHERE a.ts > now() - interval '1 hour'
//!
//! a.ts > now() - interval '1 hour'   and   a.ts <= b.ts    say   b.ts > now() - interval '1 hour'
//! ```
//!
//! Without the last a view would keep the rows of `b` forever, although they meet nothing that is still there. It follows
//! for every row of the answer, so it may stand beside the other conditions; the optimizer takes it to its input. NULLs
//! are no matter: where a comparison is NULL there is no row.
//!
//! Bounds go from column to column along comparisons that say `x <= y + constant`. Constants are of days and smaller units,
//! which are fixed lengths in UTC, the one zone that a view knows. Only bounds from below are passed on: they make rows go.
//! One from above makes them come later, and until then they have to be kept anyway.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, JoinType, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator};
use repr::{PgError, SqlType};

use crate::bind::build::{any_expr, conjuncts, filter, internal};
use crate::operators::resolve_operator;
use crate::typed::TypedExpr;

/// The longest constant that bounds are moved by, in days: sums with the clock then stay in range.
const DAYS_MAX: i64 = 36_525;

/// `column + distance > bound`, or `>=`. The bound reads the clock and no column.
struct Bound {
    column: Column,
    distance: Distance,
    strict: bool,
    bound: TypedExpr,
}

/// `low <= high + distance`, or `<`.
struct Step {
    low: Column,
    high: Column,
    distance: Distance,
    strict: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Distance {
    days: i64,
    micros: i64,
}

/// The same rows of `plan`, with the bounds that follow from others beside its joins' conditions. Errors: XX000.
pub(crate) fn derive(plan: LogicalPlan) -> Result<LogicalPlan, PgError> {
    let derived = plan.transform_up(|node| {
        let rewritten = match &node {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => match input.as_ref() {
                LogicalPlan::Join(join) => below_filter(predicate, join),
                _ => Ok(None),
            },
            LogicalPlan::Join(join) => with_consequences(Vec::new(), join),
            _ => Ok(None),
        };
        let rewritten = rewritten.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(rewritten.map_or_else(|| Transformed::no(node), Transformed::yes))
    });
    Ok(derived.map_err(internal)?.data)
}

/// A filter over a join, if something follows from both.
fn below_filter(predicate: &Expr, join: &Join) -> Result<Option<LogicalPlan>, PgError> {
    let known = conjuncts(predicate.clone());
    match with_consequences(known, join)? {
        Some(join) => filter(join, predicate.clone()).map(Some),
        None => Ok(None),
    }
}

/// A join with what follows from its conditions, and from those `above` it that hold for each row of the answer.
fn with_consequences(above: Vec<Expr>, join: &Join) -> Result<Option<LogicalPlan>, PgError> {
    let mut known = above;
    let mut derived = match join.join_type {
        JoinType::Inner => {
            gather(join, &mut known);
            consequences(&known, join)?
        }
        // The side that may be missing matters where it meets a row of the other that is still there.
        JoinType::Left | JoinType::Right => {
            let (kept, other) = match join.join_type {
                JoinType::Left => (&join.left, &join.right),
                _ => (&join.right, &join.left),
            };
            known.retain(|condition| reads_only(condition, kept));
            known.extend(own_conditions(join));
            let mut derived = consequences(&known, join)?;
            derived.retain(|condition| reads_only(condition, other));
            derived
        }
        _ => return Ok(None),
    };
    if derived.is_empty() {
        return Ok(None);
    }
    derived.splice(0..0, join.filter.clone());
    Ok(Some(LogicalPlan::Join(Join { filter: derived.into_iter().reduce(Expr::and), ..join.clone() })))
}

/// The conditions of an inner join and of those below it, which hold for each of its rows.
fn gather(join: &Join, known: &mut Vec<Expr>) {
    known.extend(own_conditions(join));
    for input in [&join.left, &join.right] {
        match input.as_ref() {
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => gather(join, known),
            LogicalPlan::Filter(filter) => known.extend(conjuncts(filter.predicate.clone())),
            _ => {}
        }
    }
}

fn own_conditions(join: &Join) -> Vec<Expr> {
    let on = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    on.chain(join.filter.iter().cloned().flat_map(conjuncts)).collect()
}

fn reads_only(condition: &Expr, plan: &LogicalPlan) -> bool {
    condition.column_refs().into_iter().all(|column| plan.schema().has_column(column))
}

/// Bounds of further columns that follow from `known`.
fn consequences(known: &[Expr], join: &Join) -> Result<Vec<Expr>, PgError> {
    let mut bounds = Vec::new();
    let mut steps = Vec::new();
    for condition in known {
        comparisons(condition, &mut |low, high, strict| {
            let Some((high, high_moved)) = term(high) else { return };
            if let Some(bound) = clock_bound(low, &join.schema) {
                bounds.push(Bound { column: high, distance: high_moved, strict, bound });
            } else if let Some((low, low_moved)) = term(low)
                && let Some(distance) = high_moved.minus(low_moved)
            {
                steps.push(Step { low, high, distance, strict });
            }
        });
    }
    let mut derived: Vec<Expr> = Vec::new();
    for bound in &bounds {
        // Each column once, by the fewest steps: what follows by others is true as well and says little more.
        let mut reached = vec![(bound.column.clone(), bound.distance, bound.strict)];
        let mut next = 0;
        while let Some((from, moved, strict)) = reached.get(next).cloned() {
            next += 1;
            for step in steps.iter().filter(|step| step.low == from) {
                let Some(distance) = moved.plus(step.distance) else { continue };
                if reached.iter().any(|(column, ..)| *column == step.high) {
                    continue;
                }
                let strict = strict || step.strict;
                reached.push((step.high.clone(), distance, strict));
                if step.high.relation != bound.column.relation
                    && let Some(condition) = bounded(&step.high, strict, &bound.bound, distance, &join.schema)?
                    && !known.contains(&condition)
                    && !derived.contains(&condition)
                {
                    derived.push(condition);
                }
            }
        }
    }
    Ok(derived)
}

/// `column > bound - distance`.
fn bounded(
    column: &Column,
    strict: bool,
    bound: &TypedExpr,
    distance: Distance,
    schema: &DFSchema,
) -> Result<Option<Expr>, PgError> {
    let Some(sql_type) = instant_type(&Expr::Column(column.clone()), schema) else { return Ok(None) };
    let bound = match distance.interval() {
        _ if distance == Distance::default() => bound.clone(),
        Some(interval) => resolve_operator("-", Some(bound.clone()), TypedExpr::new(interval, SqlType::Interval))?,
        None => return Ok(None),
    };
    let column = TypedExpr::new(Expr::Column(column.clone()), sql_type);
    Ok(Some(resolve_operator(if strict { ">" } else { ">=" }, Some(column), bound)?.expr))
}

/// Shows each `low <= high` (or, strictly, `<`) that `condition` says.
fn comparisons(condition: &Expr, found: &mut dyn FnMut(&Expr, &Expr, bool)) {
    match condition {
        Expr::Between(between) if !between.negated => {
            found(&between.low, &between.expr, false);
            found(&between.expr, &between.high, false);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Lt => found(left, right, true),
            Operator::LtEq => found(left, right, false),
            Operator::Gt => found(right, left, true),
            Operator::GtEq => found(right, left, false),
            Operator::Eq => {
                found(left, right, false);
                found(right, left, false);
            }
            _ => {}
        },
        _ => {}
    }
}

/// An instant that is a column plus a constant; in UTC the types of instants differ in nothing else.
fn term(expr: &Expr) -> Option<(Column, Distance)> {
    let call = match expr {
        Expr::Column(column) => return Some((column.clone(), Distance::default())),
        Expr::ScalarFunction(call) => call,
        _ => return None,
    };
    match (call.func.name(), call.args.as_slice()) {
        ("timestamp_to_timestamptz", [instant]) => term(instant),
        ("timestamp_add_interval" | "timestamptz_add_interval", [instant, interval])
        | ("interval_add_timestamp" | "interval_add_timestamptz", [interval, instant]) => {
            let (column, moved) = term(instant)?;
            Some((column, moved.plus(Distance::of(interval)?)?))
        }
        ("timestamp_sub_interval" | "timestamptz_sub_interval", [instant, interval]) => {
            let (column, moved) = term(instant)?;
            Some((column, moved.minus(Distance::of(interval)?)?))
        }
        _ => None,
    }
}

/// An instant that the clock alone tells: of calls without arguments, views take those that ask for it.
fn clock_bound(expr: &Expr, schema: &DFSchema) -> Option<TypedExpr> {
    let is_clock = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if call.args.is_empty());
    if !expr.column_refs().is_empty() || !any_expr(expr, is_clock) {
        return None;
    }
    Some(TypedExpr::new(expr.clone(), instant_type(expr, schema)?))
}

fn instant_type(expr: &Expr, schema: &DFSchema) -> Option<SqlType> {
    match expr.get_type(schema).ok()? {
        DataType::Timestamp(TimeUnit::Microsecond, None) => Some(SqlType::Timestamp),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Some(SqlType::Timestamptz),
        _ => None,
    }
}

impl Distance {
    /// A constant of days and smaller units.
    fn of(interval: &Expr) -> Option<Distance> {
        match interval {
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)
                if interval.months == 0 && interval.nanoseconds % 1000 == 0 =>
            {
                Distance { days: i64::from(interval.days), micros: interval.nanoseconds / 1000 }.within_bounds()
            }
            _ => None,
        }
    }

    fn plus(self, other: Distance) -> Option<Distance> {
        Distance { days: self.days + other.days, micros: self.micros + other.micros }.within_bounds()
    }

    fn minus(self, other: Distance) -> Option<Distance> {
        self.plus(Distance { days: -other.days, micros: -other.micros })
    }

    fn within_bounds(self) -> Option<Distance> {
        const MICROS_MAX: i64 = DAYS_MAX * 86_400_000_000;
        let fits = self.days.abs() <= DAYS_MAX && self.micros.abs() <= MICROS_MAX;
        fits.then_some(self)
    }

    fn interval(self) -> Option<Expr> {
        let days = i32::try_from(self.days).ok()?;
        let interval = IntervalMonthDayNano::new(0, days, self.micros * 1000);
        Some(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), None))
    }
}
