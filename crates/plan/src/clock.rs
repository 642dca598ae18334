//! `now()` in a maintained plan: not a value but the dataflow's clock.
//!
//! A row of a filter that names the clock comes and goes by itself. For that the moments must be found at which its
//! condition may change, so each comparison with the clock has to be one that changes at most once as the clock goes on:
//!
//! ```text
//! ts > now() - interval '1 hour' or not now()::date <> due          the condition
//! ----- first ------------------    ------ second, third --------   its comparisons: = is >= and <=, <> is its negation
//! ```
//!
//! [`TemporalCondition`] is the condition taken apart so. Whether a side of a comparison only rises or only falls is read
//! off its functions ([`direction`]); what is not known to do so is refused, since a wrong moment would be a wrong answer.

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator as Comparison};
use repr::{PgError, SqlType};
use std::sync::Arc;

use crate::dataflow_plan::column;
use crate::expression::{cast, transform};

/// The placeholder that stands for the clock in resolved expressions.
pub(crate) const CLOCK: &str = "$now";

/// Calls that are the clock, or the clock in another type.
const CLOCK_CALLS: [&str; 7] = [
    "current_date",
    "current_timestamp",
    "localtimestamp",
    "mz_now",
    "now",
    "statement_timestamp",
    "transaction_timestamp",
];

/// The type of the clock: `timestamptz`.
pub fn clock_type() -> DataType {
    SqlType::Timestamptz.arrow()
}

/// The clock as it stands in conditions of a plan.
pub fn clock() -> Expr {
    let field = Arc::new(Field::new(CLOCK, clock_type(), true));
    Expr::Placeholder(Placeholder::new_with_field(CLOCK.to_string(), Some(field)))
}

/// The clock, where `expr` is a call that asks for it.
pub(crate) fn of_call(expr: &Expr) -> Option<Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let name = *CLOCK_CALLS.iter().find(|name| call.args.is_empty() && call.name() == **name)?;
    // A view knows one time zone, UTC, so all of them are of the same instant.
    let to = match name {
        "current_date" => SqlType::Date.arrow(),
        "localtimestamp" => SqlType::Timestamp.arrow(),
        _ => clock_type(),
    };
    Some(cast(clock(), &clock_type(), &to))
}

/// Whether `expr` reads the clock.
pub(crate) fn reads_clock(expr: &Expr) -> bool {
    // The closure never fails, so neither does the walk.
    expr.exists(|expr| Ok(is_clock(expr))).unwrap_or(false)
}

fn is_clock(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(placeholder) if placeholder.id == CLOCK)
}

/// What to do about a clock outside of a filter.
pub(crate) fn misplaced() -> PgError {
    PgError::unsupported("now() in a materialized view outside of WHERE").with_hint(
        "Every row would change all the time. Compare it with a column in WHERE, or call it where the view is read.",
    )
}

/// One comparison with the clock. Its truth changes at most once as the clock goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockComparison {
    /// The left side, over the input's columns and, after them, the clock.
    pub left: Expr,
    /// `<`, `<=`, `>` or `>=`.
    pub operator: Comparison,
    /// The right side, over the same.
    pub right: Expr,
}

/// A condition taken apart into what changes with the clock and what connects it.
#[derive(Clone, Debug, PartialEq)]
pub struct TemporalCondition {
    /// The comparisons with the clock.
    pub comparisons: Vec<ClockComparison>,
    /// The condition over the input's columns and, after them, the truth of each comparison.
    pub connective: Expr,
}

impl TemporalCondition {
    /// Takes apart `condition`, which is over `width` columns.
    ///
    /// Errors: `0A000` where the clock is compared in a way that may change more than once.
    pub fn new(condition: &Expr, width: usize) -> Result<TemporalCondition, PgError> {
        let mut comparisons = Vec::new();
        let connective = connect(condition, width, &mut comparisons)?;
        Ok(TemporalCondition { comparisons, connective })
    }
}

/// `expr` with a column for each comparison with the clock, which is put among `comparisons`.
fn connect(expr: &Expr, width: usize, comparisons: &mut Vec<ClockComparison>) -> Result<Expr, PgError> {
    if !reads_clock(expr) {
        return Ok(expr.clone());
    }
    let mut again = |expr: &Expr| connect(expr, width, comparisons).map(Box::new);
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Comparison::And | Comparison::Or), right }) => {
            Expr::BinaryExpr(BinaryExpr { left: again(left)?, op: *op, right: again(right)? })
        }
        Expr::Not(inner) => Expr::Not(again(inner)?),
        Expr::IsTrue(inner) => Expr::IsTrue(again(inner)?),
        Expr::IsFalse(inner) => Expr::IsFalse(again(inner)?),
        Expr::IsNotTrue(inner) => Expr::IsNotTrue(again(inner)?),
        Expr::IsNotFalse(inner) => Expr::IsNotFalse(again(inner)?),
        Expr::Between(between) => {
            let bound = |op, bound: &Expr| compare(&between.expr, op, bound);
            let inside = bound(Comparison::GtEq, &between.low).and(bound(Comparison::LtEq, &between.high));
            *again(&if between.negated { Expr::Not(Box::new(inside)) } else { inside })?
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Comparison::Eq => {
                *again(&compare(left, Comparison::GtEq, right).and(compare(left, Comparison::LtEq, right)))?
            }
            Comparison::NotEq => *again(&Expr::Not(Box::new(compare(left, Comparison::Eq, right))))?,
            Comparison::Lt | Comparison::LtEq | Comparison::Gt | Comparison::GtEq => {
                let changes_once = direction(left).minus(direction(right)) != Direction::Unknown;
                if !changes_once {
                    return Err(incomparable());
                }
                let clock = |expr: &Expr| {
                    transform(expr.clone(), |expr| Ok(if is_clock(&expr) { column(width) } else { expr }))
                };
                let comparison = ClockComparison { left: clock(left)?, operator: *op, right: clock(right)? };
                let index = comparisons.iter().position(|other| *other == comparison).unwrap_or_else(|| {
                    comparisons.push(comparison);
                    comparisons.len() - 1
                });
                column(width + index)
            }
            _ => return Err(incomparable()),
        },
        _ => return Err(incomparable()),
    })
}

fn compare(left: &Expr, op: Comparison, right: &Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr { left: Box::new(left.clone()), op, right: Box::new(right.clone()) })
}

fn incomparable() -> PgError {
    PgError::unsupported("this use of now() in a materialized view").with_hint(
        "Compare now(), or now() plus or minus an interval of days and smaller units, with an expression of columns: \
         ts + interval '1 month' > now().",
    )
}

/// How an expression's value moves as the clock goes on, the row staying the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Fixed,
    Rising,
    Falling,
    /// Both, or nobody knows.
    Unknown,
}

impl Direction {
    fn plus(self, other: Direction) -> Direction {
        match (self, other) {
            (Direction::Fixed, other) => other,
            (one, Direction::Fixed) => one,
            (one, other) if one == other => one,
            _ => Direction::Unknown,
        }
    }

    fn minus(self, other: Direction) -> Direction {
        self.plus(other.turned())
    }

    fn turned(self) -> Direction {
        match self {
            Direction::Rising => Direction::Falling,
            Direction::Falling => Direction::Rising,
            same => same,
        }
    }

    /// Scaled by a constant.
    fn times(self, factor: Option<f64>) -> Direction {
        match factor {
            Some(factor) if factor > 0.0 => self,
            Some(factor) if factor < 0.0 => self.turned(),
            Some(_) => Direction::Fixed,
            None => Direction::Unknown,
        }
    }
}

/// Read off the names of the kernels that `sql` binds operators and casts to.
fn direction(expr: &Expr) -> Direction {
    if is_clock(expr) {
        return Direction::Rising;
    }
    if !reads_clock(expr) {
        return Direction::Fixed;
    }
    match expr {
        Expr::Cast(Cast { expr, field }) if is_ordered(field.data_type()) => direction(expr),
        Expr::ScalarFunction(call) => call_direction(call),
        _ => Direction::Unknown,
    }
}

/// Types into which a number or an instant is cast without changing the order.
fn is_ordered(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Date32 | DataType::Timestamp(..))
}

fn call_direction(call: &ScalarFunction) -> Direction {
    match (call.name(), call.args.as_slice()) {
        ("timestamptz_to_date" | "timestamptz_to_timestamp" | "timestamp_to_date", [value])
        | ("timestamp_to_timestamptz" | "date_to_timestamp" | "date_to_timestamptz", [value])
        | ("interval_key" | "numeric_key" | "float8_key", [value])
        | ("int4_to_numeric" | "int8_to_numeric" | "float8_to_numeric", [value])
        | ("numeric_to_float8" | "numeric_to_int4" | "numeric_to_int8", [value]) => direction(value),
        ("date_add_int4", [left, right]) => direction(left).plus(direction(right)),
        ("date_sub_int4" | "date_sub" | "timestamp_sub" | "timestamptz_sub", [left, right]) => {
            direction(left).minus(direction(right))
        }
        ("date_add_interval" | "timestamp_add_interval" | "timestamptz_add_interval", [instant, interval])
        | ("date_sub_interval" | "timestamp_sub_interval" | "timestamptz_sub_interval", [instant, interval])
        | ("interval_add_date" | "interval_add_timestamp" | "interval_add_timestamptz", [interval, instant]) => {
            // Adding months is not monotone: the 30th and the 31st of a month meet in February.
            if is_exact_interval(interval) { direction(instant) } else { Direction::Unknown }
        }
        ("interval_add", [left, right]) => direction(left).plus(direction(right)),
        ("interval_sub", [left, right]) => direction(left).minus(direction(right)),
        ("interval_neg", [value]) => direction(value).turned(),
        ("date_trunc", [Expr::Literal(..), value]) => direction(value),
        ("date_bin", [Expr::Literal(..), value, Expr::Literal(..)]) => direction(value),
        ("extract" | "date_part", [Expr::Literal(ScalarValue::Utf8(Some(field)), _), value])
            if field.eq_ignore_ascii_case("epoch") =>
        {
            direction(value)
        }
        ("timezone", [Expr::Literal(ScalarValue::Utf8(Some(zone)), _), value]) if zone.eq_ignore_ascii_case("utc") => {
            direction(value)
        }
        ("numeric_add" | "float8_add" | "int4_add" | "int8_add", [left, right]) => {
            direction(left).plus(direction(right))
        }
        ("numeric_sub" | "float8_sub" | "int4_sub" | "int8_sub", [left, right]) => {
            direction(left).minus(direction(right))
        }
        ("float8_mul" | "int4_mul" | "int8_mul", [left, right]) => match number(right) {
            Some(factor) => direction(left).times(Some(factor)),
            None => direction(right).times(number(left)),
        },
        ("float8_div" | "int4_div" | "int8_div", [left, right]) => direction(left).times(number(right)),
        _ => Direction::Unknown,
    }
}

/// A constant of days and smaller units: in UTC a day always has 24 hours.
fn is_exact_interval(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0)
}

fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => Some(*value),
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some(f64::from(*value)),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value as f64),
        _ => None,
    }
}
