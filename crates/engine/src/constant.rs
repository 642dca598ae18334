//! Expressions evaluated without a query plan: VALUES of constants, RETURNING, ON CONFLICT's assignments.
//!
//! A statement like `INSERT INTO t VALUES (1, 'a')` comes through here: no optimizer, no physical plan, one `PhysicalExpr` a
//! value.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::record_batch::RecordBatch;
use catalog::Catalog;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::create_physical_expr;
use repr::{PgError, RelationSchema, SqlState, Timestamp};
use sql::functions::catalog::{attach, attach_expr};

use crate::engine::Shared;
use crate::errors::from_datafusion;
use crate::read::{Evaluator, batch, positional, with_parameters};
use crate::session::Session;
use crate::system::Asker;

/// The rows of a plan that is only projections over VALUES, with their number; None for any other plan.
pub(crate) fn rows(
    session: &Session,
    plan: &LogicalPlan,
    parameters: &[ArrayRef],
) -> Result<Option<(Vec<ArrayRef>, usize)>, PgError> {
    if !is_constant(plan) {
        return Ok(None);
    }
    let plan = with_parameters(plan.clone(), parameters)?;
    let plan = attach(plan, || session.snapshot()).map_err(from_datafusion)?;
    evaluate_plan(&session.shared.evaluator, &plan).map(Some)
}

/// The moment that AS OF or UP TO names, as [`sql::bind::bind_moment`] bound it. Errors: `22004` for NULL, `22023` for one before 1970.
pub(crate) fn moment(session: &Session, expr: &Expr) -> Result<Timestamp, PgError> {
    let expr = attach_expr(expr.clone(), || session.snapshot()).map_err(from_datafusion)?;
    let one_row = batch(&Arc::new(arrow::datatypes::Schema::empty()), Vec::new(), 1)?;
    let milliseconds = match scalar(&session.shared.evaluator, &expr, &DFSchema::empty(), &one_row)? {
        ScalarValue::Int64(Some(milliseconds)) => milliseconds,
        ScalarValue::TimestampMicrosecond(Some(micros), _) => micros.div_euclid(1000),
        _ => return Err(PgError::new(SqlState("22004"), "AS OF and UP TO need a moment that is not NULL")),
    };
    Timestamp::try_from(milliseconds)
        .map_err(|_| PgError::new(SqlState::INVALID_PARAMETER_VALUE, "AS OF and UP TO need a moment after 1970"))
}

fn is_constant(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Values(_) => true,
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Projection(projection) => is_constant(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_constant(&alias.input),
        _ => false,
    }
}

fn evaluate_plan(evaluator: &Evaluator, plan: &LogicalPlan) -> Result<(Vec<ArrayRef>, usize), PgError> {
    match plan {
        LogicalPlan::Values(values) => {
            let one_row = RecordBatch::try_new_with_options(
                Arc::new(arrow::datatypes::Schema::empty()),
                Vec::new(),
                &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1)),
            )
            .map_err(|error| PgError::internal(error.to_string()))?;
            let none = DFSchema::empty();
            let mut columns = Vec::with_capacity(values.schema.fields().len());
            for (index, field) in values.schema.fields().iter().enumerate() {
                let mut scalars = Vec::with_capacity(values.values.len());
                for row in &values.values {
                    scalars.push(scalar(evaluator, &row[index], &none, &one_row)?);
                }
                columns.push(column(scalars, field.data_type())?);
            }
            Ok((columns, values.values.len()))
        }
        LogicalPlan::EmptyRelation(_) => Ok((Vec::new(), 1)),
        LogicalPlan::Projection(projection) => {
            let (inputs, row_count) = evaluate_plan(evaluator, &projection.input)?;
            let schema = projection.input.schema();
            let rows = batch(&Arc::new(schema.as_arrow().clone()), inputs, row_count)
                .map_err(|_| PgError::internal("a projection's input has other columns than it says"))?;
            let mut columns = Vec::with_capacity(projection.expr.len());
            for expr in &projection.expr {
                columns.push(array(evaluator, expr, schema, &rows)?);
            }
            Ok((columns, row_count))
        }
        LogicalPlan::SubqueryAlias(alias) => evaluate_plan(evaluator, &alias.input),
        other => Err(PgError::internal(format!("{} is not constant", other.display()))),
    }
}

/// A value: at once for a literal, which most are.
fn scalar(
    evaluator: &Evaluator,
    expr: &Expr,
    schema: &DFSchema,
    one_row: &RecordBatch,
) -> Result<ScalarValue, PgError> {
    match expr {
        Expr::Literal(value, _) => Ok(value.clone()),
        Expr::Alias(alias) => scalar(evaluator, &alias.expr, schema, one_row),
        expr => {
            let array = array(evaluator, expr, schema, one_row)?;
            ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)
        }
    }
}

fn column(scalars: Vec<ScalarValue>, data_type: &arrow::datatypes::DataType) -> Result<ArrayRef, PgError> {
    let typed = scalars.iter().all(|scalar| scalar.data_type() == *data_type);
    if typed && !scalars.is_empty() {
        return ScalarValue::iter_to_array(scalars).map_err(from_datafusion);
    }
    // An untyped NULL among them.
    let mut parts = Vec::with_capacity(scalars.len());
    for scalar in scalars {
        let array = match scalar.is_null() {
            true => arrow::array::new_null_array(data_type, 1),
            false => scalar.to_array().map_err(from_datafusion)?,
        };
        parts.push(array);
    }
    if parts.is_empty() {
        return Ok(arrow::array::new_empty_array(data_type));
    }
    let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(|part| part.as_ref()).collect();
    concat(&parts).map_err(|error| PgError::internal(error.to_string()))
}

fn array(evaluator: &Evaluator, expr: &Expr, schema: &DFSchema, rows: &RecordBatch) -> Result<ArrayRef, PgError> {
    let context = PhysicalPlanningContext::default();
    let physical = create_physical_expr(expr, schema, evaluator.state().execution_props(), &context);
    let physical = physical.map_err(from_datafusion)?;
    let value = physical.evaluate(rows).map_err(from_datafusion)?;
    value.into_array(rows.num_rows()).map_err(from_datafusion)
}

/// Expressions over rows of a relation, whose columns they name without a qualifier.
pub(crate) fn evaluate(
    session: &Session,
    exprs: &[Expr],
    schema: &RelationSchema,
    columns: &[ArrayRef],
    row_count: usize,
) -> Result<Vec<ArrayRef>, PgError> {
    evaluate_for(&session.shared, &session.asker(), &session.catalog(), exprs, schema, columns, row_count)
}

/// The same for a session that waits elsewhere.
pub(crate) fn evaluate_for(
    shared: &Shared,
    asker: &Asker,
    catalog: &Arc<Catalog>,
    exprs: &[Expr],
    schema: &RelationSchema,
    columns: &[ArrayRef],
    row_count: usize,
) -> Result<Vec<ArrayRef>, PgError> {
    let arrow_schema = if schema.columns.is_empty() { positional(columns) } else { schema.arrow() };
    let rows = batch(&arrow_schema, columns.to_vec(), row_count)?;
    let schema = DFSchema::try_from(arrow_schema).map_err(from_datafusion)?;
    let evaluated = exprs.iter().map(|expr| {
        let expr = attach_expr(expr.clone(), || asker.snapshot(shared, catalog, &[])).map_err(from_datafusion)?;
        array(&shared.evaluator, &expr, &schema, &rows)
    });
    evaluated.collect()
}
