//! Plan nodes from their parts, and small questions about expressions. Nothing here knows SQL.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, JoinConstraint, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, EmptyRelation, Expr, Filter, Join, LogicalPlan, Operator, Projection, lit,
};
use repr::PgError;

/// What DataFusion says while a plan is built is our defect, unless a kernel of ours boxed an error for the user.
pub(crate) fn internal(error: DataFusionError) -> PgError {
    match error {
        DataFusionError::External(boxed) => match boxed.downcast::<PgError>() {
            Ok(error) => *error,
            Err(other) => PgError::internal(other.to_string()),
        },
        DataFusionError::Context(_, inner) => internal(*inner),
        other => PgError::internal(other.strip_backtrace()),
    }
}

/// One row without columns: what SELECT without FROM reads.
pub(crate) fn one_row() -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, schema: Arc::new(DFSchema::empty()) })
}

/// Whether it is [`one_row`].
pub(crate) fn is_one_row(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row && empty.schema.fields().is_empty())
}

pub(crate) fn project(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan, PgError> {
    Projection::try_new(exprs, Arc::new(plan)).map(LogicalPlan::Projection).map_err(internal)
}

/// All columns of `plan`, as expressions.
pub(crate) fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// `plan` with further columns.
pub(crate) fn extend(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan, PgError> {
    if exprs.is_empty() {
        return Ok(plan);
    }
    let mut all = columns(&plan);
    all.extend(exprs);
    project(plan, all)
}

pub(crate) fn filter(plan: LogicalPlan, predicate: Expr) -> Result<LogicalPlan, PgError> {
    Filter::try_new(predicate, Arc::new(plan)).map(LogicalPlan::Filter).map_err(internal)
}

/// Groups `plan`. Grouping expressions have names that no input column has: DataFusion 55 takes a grouping column that was
/// unique before a join for a key of the result, and then drops others, wherever it finds the same name on both sides.
pub(crate) fn aggregate(plan: LogicalPlan, groups: Vec<Expr>, aggregates: Vec<Expr>) -> Result<LogicalPlan, PgError> {
    Aggregate::try_new(Arc::new(plan), groups, aggregates).map(LogicalPlan::Aggregate).map_err(internal)
}

/// Joins on `on` (SQL's `=`: NULLs meet nothing) and on `null_on` (IS NOT DISTINCT FROM), and on `conditions` over both sides.
pub(crate) fn join(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    on: Vec<(Expr, Expr)>,
    null_on: Vec<(Expr, Expr)>,
    mut conditions: Vec<Expr>,
) -> Result<LogicalPlan, PgError> {
    // A join node knows one way to treat NULL for all its keys. Where both are wanted NULLs meet, and those of plain keys
    // are shut out by a condition.
    let null_equality = if null_on.is_empty() { NullEquality::NullEqualsNothing } else { NullEquality::NullEqualsNull };
    if !null_on.is_empty() {
        conditions.extend(on.iter().map(|(left, _)| left.clone().is_not_null()));
    }
    let keys = on.into_iter().chain(null_on).collect();
    Join::try_new(
        Arc::new(left),
        Arc::new(right),
        keys,
        conjunction(conditions),
        join_type,
        JoinConstraint::On,
        null_equality,
        false,
    )
    .map(LogicalPlan::Join)
    .map_err(internal)
}

/// Every row of one with every row of the other. One row without columns joins to nothing but the other side.
pub(crate) fn cross(left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan, PgError> {
    if is_one_row(&left) {
        return Ok(right);
    }
    if is_one_row(&right) {
        return Ok(left);
    }
    join(left, right, JoinType::Inner, Vec::new(), Vec::new(), Vec::new())
}

/// The conjuncts of a predicate.
pub(crate) fn conjuncts(expr: Expr) -> Vec<Expr> {
    datafusion::logical_expr::utils::split_conjunction_owned(expr)
}

/// The sides of `left = right`.
pub(crate) fn equality(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some((left, right)),
        _ => None,
    }
}

/// Whether `found` holds for some expression within `expr`.
pub(crate) fn any_expr(expr: &Expr, mut found: impl FnMut(&Expr) -> bool) -> bool {
    expr.exists(|expr| Ok(found(expr))).unwrap_or(true)
}

/// Whether `found` holds for some expression within `plan`.
pub(crate) fn any_plan_expr(plan: &LogicalPlan, mut found: impl FnMut(&Expr) -> bool) -> bool {
    let mut result = false;
    let visited = plan.apply(|node| {
        node.apply_expressions(|expr| {
            result |= expr.exists(|expr| Ok(found(expr)))?;
            Ok(if result { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    result || visited.is_err()
}

/// The columns `expr` reads (not outer references), in order, each once.
pub(crate) fn columns_in(expr: &Expr) -> Vec<Column> {
    let mut columns = Vec::new();
    any_expr(expr, |expr| {
        if let Expr::Column(column) = expr
            && !columns.contains(column)
        {
            columns.push(column.clone());
        }
        false
    });
    columns
}

/// `expr` with each subexpression that `replace` has an answer for replaced, outermost first; answers are not looked into.
pub(crate) fn replace(expr: Expr, mut replace: impl FnMut(&Expr) -> Option<Expr>) -> Result<Expr, PgError> {
    expr.transform_down(|expr| {
        Ok(match replace(&expr) {
            Some(new) => Transformed::new(new, true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })
    .map(|transformed| transformed.data)
    .map_err(internal)
}

/// [`replace`] on every expression of a plan.
pub(crate) fn replace_in_plan(
    plan: LogicalPlan,
    mut replace: impl FnMut(&Expr) -> Option<Expr>,
) -> Result<LogicalPlan, PgError> {
    plan.transform_up(|node| {
        let node = node.map_expressions(|expr| {
            expr.transform_down(|expr| {
                Ok(match replace(&expr) {
                    Some(new) => Transformed::new(new, true, TreeNodeRecursion::Jump),
                    None => Transformed::no(expr),
                })
            })
        })?;
        if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    })
    .map(|transformed| transformed.data)
    .map_err(internal)
}

/// An outer reference to `column`, whose Arrow type is `data_type`.
pub(crate) fn outer_reference(column: Column, data_type: DataType) -> Expr {
    Expr::OuterReferenceColumn(Arc::new(Field::new(&column.name, data_type, true)), column)
}

/// The type of each column of `plan`.
pub(crate) fn column_types(plan: &LogicalPlan) -> HashMap<Column, DataType> {
    let schema = plan.schema();
    schema
        .columns()
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| (column, field.data_type().clone()))
        .collect()
}

/// `CASE WHEN .. THEN .. ELSE .. END`.
pub(crate) fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    Expr::Case(datafusion::logical_expr::Case {
        expr: None,
        when_then_expr: branches.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect(),
        else_expr: Some(Box::new(otherwise)),
    })
}

/// NULL of type boolean.
pub(crate) fn null_boolean() -> Expr {
    lit(ScalarValue::Boolean(None))
}

/// `expr`, and 0 where it is NULL.
pub(crate) fn or_zero(expr: Expr) -> Expr {
    case(vec![(expr.clone().is_null(), lit(0i64))], expr)
}
