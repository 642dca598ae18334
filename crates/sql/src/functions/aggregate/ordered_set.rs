//! Aggregates with WITHIN GROUP: `mode`, `percentile_cont`, `percentile_disc`. In the plan they are calls of the value,
//! then the fraction, ordered by the value.

use std::sync::Arc;

use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, SortExpr};
use repr::{PgError, SqlState, SqlType};

use super::{AGGREGATES, undefined};
use crate::cast::{CastContext, cast};
use crate::typed::TypedExpr;

/// Whether an aggregate takes WITHIN GROUP.
pub(crate) fn is_ordered_set(name: &str) -> bool {
    matches!(name, "mode" | "percentile_cont" | "percentile_disc")
}

/// What ORDER BY names, as the aggregate takes it.
pub(crate) fn ordered_set_value(name: &str, value: TypedExpr) -> Result<TypedExpr, PgError> {
    let wanted = match (name, &value.sql_type) {
        ("percentile_cont", SqlType::Interval) => SqlType::Interval,
        ("percentile_cont", _) => SqlType::Float8,
        (_, SqlType::Unknown) => SqlType::Text,
        _ => return Ok(value),
    };
    let refused = undefined(name, std::slice::from_ref(&value));
    cast(value, &wanted, -1, CastContext::Implicit).map_err(|_| refused)
}

/// A call over `value` sorted by `sort`; `fraction` is a constant, of percentiles only. Errors: `42883`, `0A000`.
pub(crate) fn resolve_ordered_set(
    name: &str,
    fraction: Option<TypedExpr>,
    value: TypedExpr,
    sort: SortExpr,
    filter: Option<Expr>,
) -> Result<TypedExpr, PgError> {
    let missing = || PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
    let udf = AGGREGATES.get(name).ok_or_else(missing)?;
    if matches!(value.sql_type, SqlType::Array(_)) {
        return Err(PgError::unsupported(format!("{name} over arrays")));
    }
    let mut result = value.sql_type.clone();
    let mut arguments = vec![value.expr];
    if let Some(fraction) = fraction {
        if matches!(fraction.sql_type, SqlType::Array(_)) {
            result = SqlType::Array(Box::new(result));
        }
        arguments.push(fraction.expr);
    }
    let call = AggregateFunction::new_udf(Arc::clone(udf), arguments, false, filter.map(Box::new), vec![sort], None);
    Ok(TypedExpr::new(Expr::AggregateFunction(call), result))
}
