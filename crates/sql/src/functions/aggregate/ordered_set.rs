//! Aggregates with WITHIN GROUP: `mode`, `percentile_cont`, `percentile_disc`. In the plan they are calls of the value,
//! then the fraction, ordered by the value. The hypothetical ones (see [`super::hypothetical`]) have a list of their own,
//! for their names are those of window functions.

use std::sync::{Arc, LazyLock};

use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, Signature, SortExpr, Volatility};
use repr::{PgError, SqlState, SqlType};

use super::{AGGREGATES, Aggregate, collected, undefined, whole};
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

static HYPOTHETICAL: LazyLock<[Arc<AggregateUDF>; 4]> = LazyLock::new(|| {
    ["cume_dist", "dense_rank", "percent_rank", "rank"].map(|name| {
        Arc::new(AggregateUDF::new_from_impl(Aggregate {
            name,
            signature: Signature::variadic_any(Volatility::Immutable),
            result: whole::result_type,
            make: collected::Collected::boxed,
            state_types: collected::state_types,
            ordered: true,
            in_frame: false,
        }))
    })
});

/// Where a row of the literals `row` would stand among rows sorted by `order`, whose expressions are as many.
pub(crate) fn resolve_hypothetical(
    name: &str,
    row: Vec<Expr>,
    order: Vec<SortExpr>,
    filter: Option<Expr>,
) -> Result<TypedExpr, PgError> {
    let udf = HYPOTHETICAL.iter().find(|udf| udf.name() == name);
    let udf = udf.ok_or_else(|| PgError::internal(format!("{name} ranks no row")))?;
    let result = if matches!(name, "rank" | "dense_rank") { SqlType::Int8 } else { SqlType::Float8 };
    let arguments = row.into_iter().chain(order.iter().map(|sort| sort.expr.clone())).collect();
    let call = AggregateFunction::new_udf(Arc::clone(udf), arguments, false, filter.map(Box::new), order, None);
    Ok(TypedExpr::new(Expr::AggregateFunction(call), result))
}
