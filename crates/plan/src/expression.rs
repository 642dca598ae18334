//! Expressions over positions: `#0`, `#1`, .. instead of names, so that operators can be moved and merged without a
//! schema.

use std::collections::BTreeSet;

use crate::clock;
use crate::dataflow_plan::column;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Case, Cast, Expr, ExprSchemable, expr};
use repr::{PgError, SqlState};

/// `expr` over the columns of `schemas` side by side, without aliases.
///
/// Errors: `0A000` for what no operator can evaluate, volatile functions among it; `42P02` for a parameter.
pub(crate) fn resolve(expr: &Expr, schemas: &[&DFSchema]) -> Result<Expr, PgError> {
    let resolved = resolve_condition(expr, schemas)?;
    if clock::reads_clock(&resolved) { Err(clock::misplaced()) } else { Ok(resolved) }
}

/// [`resolve`] for a condition of rows, which may read the clock.
pub(crate) fn resolve_condition(expr: &Expr, schemas: &[&DFSchema]) -> Result<Expr, PgError> {
    check(expr)?;
    transform(expr.clone(), |expr| match expr {
        Expr::Column(name) => {
            let mut offset = 0;
            for schema in schemas {
                if let Some(index) = schema.maybe_index_of_column(&name) {
                    return Ok(column(offset + index));
                }
                offset += schema.fields().len();
            }
            Err(PgError::internal(format!("column {name} is not among the columns of its input")))
        }
        Expr::Alias(alias) => Ok(*alias.expr),
        other => Ok(clock::of_call(&other).unwrap_or(other)),
    })
}

fn check(expr: &Expr) -> Result<(), PgError> {
    let mut found = Ok(());
    let walked = expr.apply(|expr| {
        found = match expr {
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                Err(PgError::unsupported("this form of subquery in a materialized view"))
            }
            Expr::OuterReferenceColumn(_, name) => {
                Err(PgError::unsupported(format!("a reference to the outer column {name} in this place")))
            }
            Expr::AggregateFunction(call) => {
                Err(PgError::unsupported(format!("the aggregate function {} in this place", call.func.name())))
            }
            Expr::WindowFunction(_) => Err(PgError::unsupported("a window function in this place")),
            Expr::GroupingSet(_) => Err(PgError::unsupported("GROUPING SETS in a materialized view")),
            Expr::Unnest(_) => Err(PgError::unsupported("a set-returning function in this place")),
            Expr::HigherOrderFunction(_) | Expr::Lambda(_) | Expr::LambdaVariable(_) => {
                Err(PgError::unsupported("a lambda in a materialized view"))
            }
            Expr::ScalarVariable(..) => Err(PgError::unsupported("a variable in a materialized view")),
            Expr::Placeholder(parameter) => {
                Err(PgError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {}", parameter.id)))
            }
            Expr::ScalarFunction(call) if expr.is_volatile_node() && clock::of_call(expr).is_none() => {
                Err(PgError::unsupported(format!(
                    "the function {} in a materialized view: it gives another answer each time and",
                    call.name()
                )))
            }
            _ => Ok(()),
        };
        Ok(if found.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    found.and(walked.map(|_| ()).map_err(internal))
}

/// `expr` with each column `#i` replaced by `replacement(i)`.
pub(crate) fn substitute(expr: Expr, replacement: &dyn Fn(usize) -> Expr) -> Result<Expr, PgError> {
    transform(expr, |expr| Ok(position(&expr).map(replacement).unwrap_or(expr)))
}

/// [`substitute`] for several expressions.
pub(crate) fn substitute_all(exprs: &[Expr], replacement: &dyn Fn(usize) -> Expr) -> Result<Vec<Expr>, PgError> {
    exprs.iter().map(|expr| substitute(expr.clone(), replacement)).collect()
}

/// Bottom up, so that what `change` gives is not changed again.
pub(crate) fn transform(expr: Expr, mut change: impl FnMut(Expr) -> Result<Expr, PgError>) -> Result<Expr, PgError> {
    let mut failed = None;
    let transformed = expr.transform_up(|expr| match change(expr) {
        Ok(expr) => Ok(Transformed::yes(expr)),
        Err(error) => {
            let message = error.message.clone();
            failed = Some(error);
            Err(DataFusionError::Plan(message))
        }
    });
    match (transformed, failed) {
        (_, Some(error)) => Err(error),
        (Ok(transformed), None) => Ok(transformed.data),
        (Err(error), None) => Err(internal(error)),
    }
}

/// `i` where `expr` is the column `#i`.
pub(crate) fn position(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) if column.relation.is_none() => column.name.strip_prefix('#')?.parse().ok(),
        _ => None,
    }
}

/// Adds the positions that `expr` reads to `positions`.
pub(crate) fn add_positions(expr: &Expr, positions: &mut BTreeSet<usize>) {
    visit_positions(expr, |index| {
        positions.insert(index);
    });
}

/// Calls `visit` once for every occurrence of a column.
pub(crate) fn visit_positions(expr: &Expr, mut visit: impl FnMut(usize)) {
    // The closure never fails, so neither does the walk.
    let _ = expr.apply(|expr| {
        if let Some(index) = position(expr) {
            visit(index);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// The positions that `expr` reads.
pub(crate) fn positions(expr: &Expr) -> BTreeSet<usize> {
    let mut positions = BTreeSet::new();
    add_positions(expr, &mut positions);
    positions
}

/// Columns `0..count`.
pub(crate) fn all_columns(count: usize) -> Vec<Expr> {
    (0..count).map(column).collect()
}

/// The type of a positional expression over rows of `schema`.
pub(crate) fn type_of(expr: &Expr, schema: &Schema) -> Result<DataType, PgError> {
    if let Some(index) = position(expr) {
        return match schema.fields().get(index) {
            Some(field) => Ok(field.data_type().clone()),
            None => Err(PgError::internal(format!("no column #{index} among {}", schema.fields().len()))),
        };
    }
    let schema = DFSchema::try_from(schema.clone()).map_err(internal)?;
    expr.get_type(&schema).map_err(internal)
}

/// The conditions that must all hold for `predicate` to be true.
pub(crate) fn conjuncts(predicate: Expr) -> Vec<Expr> {
    split_conjunction_owned(predicate).into_iter().filter(|expr| !is_true(expr)).collect()
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// NULL of a type.
pub(crate) fn null(data_type: &DataType) -> Result<Expr, PgError> {
    Ok(Expr::Literal(ScalarValue::try_from(data_type).map_err(internal)?, None))
}

/// A literal.
pub(crate) fn literal(value: ScalarValue) -> Expr {
    Expr::Literal(value, None)
}

/// `value` where `filter` is true, otherwise NULL.
pub(crate) fn only_where(filter: Option<Expr>, value: Expr) -> Expr {
    match filter {
        None => value,
        Some(filter) => Expr::Case(Case::new(None, vec![(Box::new(filter), Box::new(value))], None)),
    }
}

/// `expr` cast, unless it has that type.
pub(crate) fn cast(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    match from == to {
        true => expr,
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
    }
}

/// Whether evaluating it again costs nothing.
pub(crate) fn is_trivial(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..)) || position(expr).is_some()
}

/// Whether `expr` is one that no row makes fail: comparisons and tests of columns and literals, and connectives.
pub(crate) fn never_fails(expr: &Expr) -> bool {
    use datafusion::logical_expr::Operator::*;
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Not(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner) => never_fails(inner),
        Expr::BinaryExpr(binary) => {
            let is_test =
                matches!(binary.op, And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom);
            is_test && never_fails(&binary.left) && never_fails(&binary.right)
        }
        _ => false,
    }
}

/// The aggregate call inside aliases.
pub(crate) fn aggregate_call(expr: &Expr) -> Option<&expr::AggregateFunction> {
    match expr {
        Expr::Alias(alias) => aggregate_call(&alias.expr),
        Expr::AggregateFunction(call) => Some(call),
        _ => None,
    }
}

/// A failure that no input should cause: the binder gave a plan that does not type.
pub(crate) fn internal(error: DataFusionError) -> PgError {
    if let DataFusionError::External(source) = error.find_root()
        && let Some(error) = source.downcast_ref::<PgError>()
    {
        return error.clone();
    }
    PgError::internal(error.strip_backtrace())
}
