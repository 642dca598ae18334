//! Filter and projection of containers: DataFusion's physical expressions over whole batches.
//!
//! A batch is evaluated as one. Only if that fails is it halved until the failing rows are alone; they leave as errors
//! with their time and diff, and every other row has its value. Conditions then apply one after the other, so that a
//! row which an earlier one rejects never fails in a later one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{and_kleene, cast, concat, filter, prep_null_mask_filter};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use repr::{Lane, OnError, PgError};

use crate::DataflowError;
use crate::errors::{ErrorRow, ErrorUpdates, evaluation_error};
use crate::updates::Updates;

/// A filter and a projection, compiled for one input schema.
pub(crate) struct RowFunction {
    operator: String,
    filter: Stage,
    /// The expressions that compute something.
    computed: Stage,
    outputs: Vec<Output>,
    /// The input columns that are read after the filter.
    needed: Vec<usize>,
    /// No filter, and every input column as it is.
    identity: bool,
    on_error: OnError,
}

enum Output {
    /// An input column as it is.
    Column(usize),
    /// The value of a computed expression, and the type it has to have.
    Computed(usize, DataType),
}

/// Expressions over the input columns that they read.
pub(crate) struct Stage {
    columns: Vec<usize>,
    schema: SchemaRef,
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    on_error: OnError,
}

impl RowFunction {
    /// Compiles `filter` and `columns`, whose results have the types of `output`. `operator` names it in errors.
    pub(crate) fn new(
        operator: &str,
        input: &SchemaRef,
        filter: &[Expr],
        columns: &[Expr],
        output: &Schema,
    ) -> Result<RowFunction, DataflowError> {
        if columns.len() != output.fields().len() {
            return Err(DataflowError::InvalidPlan(format!("{operator} has a schema of another width")));
        }
        let mut outputs = Vec::new();
        let mut computed = Vec::new();
        for (expr, field) in columns.iter().zip(output.fields()) {
            match plain_column(expr, input) {
                Some(column) if input.field(column).data_type() == field.data_type() => {
                    outputs.push(Output::Column(column));
                }
                _ => {
                    outputs.push(Output::Computed(computed.len(), field.data_type().clone()));
                    computed.push(expr.clone());
                }
            }
        }
        let identity = filter.is_empty()
            && outputs.len() == input.fields().len()
            && outputs
                .iter()
                .enumerate()
                .all(|(index, output)| matches!(output, Output::Column(column) if *column == index));
        let computed = Stage::new(input, &computed)?;
        let passed = outputs.iter().filter_map(|output| match output {
            Output::Column(column) => Some(*column),
            Output::Computed(..) => None,
        });
        Ok(RowFunction {
            operator: operator.to_owned(),
            filter: Stage::new(input, filter)?,
            needed: passed.chain(computed.columns.iter().copied()).collect(),
            computed,
            outputs,
            identity,
            on_error: OnError::default(),
        })
    }

    /// What becomes of rows that fail: reported unless a failing expression is to be NULL.
    pub(crate) fn set_on_error(&mut self, on_error: OnError) {
        self.on_error = on_error;
        self.filter.set_on_error(on_error);
        self.computed.set_on_error(on_error);
    }

    /// Whether rows pass through unchanged.
    pub(crate) fn is_identity(&self) -> bool {
        self.identity
    }

    /// The rows that stay, projected; the rows that fail, in `errors`.
    pub(crate) fn apply(&self, updates: Updates, errors: &mut ErrorUpdates) -> Updates {
        if self.identity {
            return updates;
        }
        let Updates { columns, times, diffs, .. } = updates;
        let mut rows = Rows { columns, times, diffs };
        // What the error of a row needs to know of it, should there be one.
        let mut whole = rows.columns.clone();
        let mut mask = None;
        if !self.filter.expressions.is_empty() {
            match self.filter.conjunction(&rows) {
                Ok(kept) => {
                    rows = rows.filter_some(&kept, |column| self.needed.contains(&column));
                    mask = Some(kept);
                }
                Err(_) => {
                    for index in 0..self.filter.expressions.len() {
                        let (kept, failures) = self.filter.evaluate(index, &rows.columns, rows.len());
                        self.report(&rows, failures, errors);
                        let kept = kept.as_boolean_opt().cloned().unwrap_or_else(|| none(rows.len()));
                        rows = rows.filter(&kept);
                    }
                    whole = rows.columns.clone();
                }
            }
        }
        let mut computed: Vec<ArrayRef> = Vec::with_capacity(self.computed.expressions.len());
        let mut failures: Vec<(usize, PgError)> = Vec::new();
        for index in 0..self.computed.expressions.len() {
            let (values, failed) = self.computed.evaluate(index, &rows.columns, rows.len());
            computed.push(values);
            failures.extend(failed);
        }
        let projected: Result<Vec<ArrayRef>, DataFusionError> = self
            .outputs
            .iter()
            .map(|output| match output {
                Output::Column(column) => Ok(rows.columns[*column].clone()),
                Output::Computed(index, data_type) if computed[*index].data_type() == data_type => {
                    Ok(computed[*index].clone())
                }
                Output::Computed(index, data_type) => Ok(cast(&computed[*index], data_type)?),
            })
            .collect();
        let projected = projected.unwrap_or_else(|error| {
            let error = evaluation_error(&error);
            failures.extend((0..rows.len()).map(|row| (row, error.clone())));
            self.outputs
                .iter()
                .map(|output| match output {
                    Output::Column(column) => rows.columns[*column].clone(),
                    Output::Computed(_, data_type) => new_null_array(data_type, rows.len()),
                })
                .collect()
        });
        if failures.is_empty() || self.on_error == OnError::Null {
            return Updates::new(projected, rows.times, rows.diffs);
        }
        failures.sort_by_key(|failure| failure.0);
        failures.dedup_by_key(|failure| failure.0);
        let failed: BTreeSet<usize> = failures.iter().map(|failure| failure.0).collect();
        let kept = BooleanArray::from_iter((0..rows.len()).map(|row| Some(!failed.contains(&row))));
        if let Some(mask) = mask {
            let mask = definite(&mask);
            whole = whole.iter().map(|column| filter_column(column, &mask)).collect();
        }
        rows.columns = whole;
        self.report(&rows, failures, errors);
        let rows = Rows { columns: projected, times: rows.times, diffs: rows.diffs }.filter(&kept);
        Updates::new(rows.columns, rows.times, rows.diffs)
    }

    fn report(&self, rows: &Rows, failures: Vec<(usize, PgError)>, errors: &mut ErrorUpdates) {
        if self.on_error == OnError::Null {
            return;
        }
        for (row, error) in failures {
            let error = ErrorRow::new(&self.operator, &rows.columns, row, &error);
            errors.push((error, rows.times.get(row), rows.diffs.get(row)));
        }
    }
}

fn none(len: usize) -> BooleanArray {
    BooleanArray::from(vec![false; len])
}

/// The input column that `expr` is, if it is nothing else.
fn plain_column(expr: &Expr, input: &Schema) -> Option<usize> {
    match expr {
        Expr::Column(column) => input.index_of(&column.name).ok(),
        Expr::Alias(alias) => plain_column(&alias.expr, input),
        _ => None,
    }
}

/// The input columns that `exprs` read, ascending.
pub(crate) fn columns_read<'a>(
    exprs: impl IntoIterator<Item = &'a Expr>,
    input: &Schema,
) -> Result<Vec<usize>, DataflowError> {
    let mut columns = BTreeSet::new();
    for expr in exprs {
        let mut unknown = None;
        expr.apply(|node| {
            if let Expr::Column(column) = node {
                match input.index_of(&column.name) {
                    Ok(index) => {
                        columns.insert(index);
                    }
                    Err(_) => unknown = Some(column.name.clone()),
                }
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })
        .map_err(|error| DataflowError::Plan(evaluation_error(&error)))?;
        if let Some(name) = unknown {
            return Err(DataflowError::InvalidPlan(format!(
                "an expression reads {name}, which its input does not have"
            )));
        }
    }
    Ok(columns.into_iter().collect())
}

impl Stage {
    /// Compiles `exprs` over rows of `input`.
    pub(crate) fn new(input: &SchemaRef, exprs: &[Expr]) -> Result<Stage, DataflowError> {
        let columns = columns_read(exprs, input)?;
        let schema = Arc::new(input.project(&columns).map_err(|error| DataflowError::InvalidPlan(error.to_string()))?);
        let df_schema =
            DFSchema::try_from(schema.clone()).map_err(|error| DataflowError::InvalidPlan(error.to_string()))?;
        let props = ExecutionProps::new();
        let context = PhysicalPlanningContext::default();
        let expressions = exprs
            .iter()
            .map(|expr| create_physical_expr(expr, &df_schema, &props, &context))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| DataflowError::Plan(evaluation_error(&error)))?;
        Ok(Stage { columns, schema, expressions, on_error: OnError::default() })
    }

    /// What a row that fails has for a value: NULL, or with [`OnError::Null`] what comes out if the part that fails is NULL.
    pub(crate) fn set_on_error(&mut self, on_error: OnError) {
        self.on_error = on_error;
    }

    /// The input columns that are read, ascending.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The type of expression `index`.
    pub(crate) fn data_type(&self, index: usize) -> Option<DataType> {
        self.expressions[index].data_type(&self.schema).ok()
    }

    fn batch(&self, columns: &[ArrayRef], row_count: usize) -> Result<RecordBatch, DataFusionError> {
        let columns = self.columns.iter().map(|column| columns[*column].clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// All expressions as conditions on all rows at once.
    fn conjunction(&self, rows: &Rows) -> Result<BooleanArray, DataFusionError> {
        let batch = self.batch(&rows.columns, rows.len())?;
        let mut kept: Option<BooleanArray> = None;
        for expression in &self.expressions {
            let values = expression.evaluate(&batch)?.into_array(rows.len())?;
            let values = values
                .as_boolean_opt()
                .ok_or_else(|| DataFusionError::Internal("a condition that is not boolean".to_owned()))?;
            kept = Some(match kept {
                None => values.clone(),
                Some(kept) => and_kleene(&kept, values)?,
            });
        }
        Ok(kept.unwrap_or_else(|| BooleanArray::from(vec![true; rows.len()])))
    }

    /// The values of expression `index` over `row_count` rows of the input, and the rows that fail with their errors.
    pub(crate) fn evaluate(
        &self,
        index: usize,
        columns: &[ArrayRef],
        row_count: usize,
    ) -> (ArrayRef, Vec<(usize, PgError)>) {
        let expression = &self.expressions[index];
        let mut failures = Vec::new();
        let values = match self.batch(columns, row_count) {
            Ok(batch) => evaluate_part(expression, &batch, 0, self.on_error, &mut failures),
            Err(error) => {
                let error = evaluation_error(&error);
                failures.extend((0..row_count).map(|row| (row, error.clone())));
                nulls(expression, &self.schema, row_count)
            }
        };
        (values, failures)
    }
}

fn nulls(expression: &Arc<dyn PhysicalExpr>, schema: &Schema, len: usize) -> ArrayRef {
    new_null_array(&expression.data_type(schema).unwrap_or(DataType::Null), len)
}

/// Evaluates `batch`, whose first row is row `start`; halves it where that fails.
fn evaluate_part(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    start: usize,
    on_error: OnError,
    failures: &mut Vec<(usize, PgError)>,
) -> ArrayRef {
    let len = batch.num_rows();
    match expression.evaluate(batch).and_then(|values| values.into_array(len)) {
        Ok(values) => values,
        Err(error) if len <= 1 => {
            failures.extend((0..len).map(|row| (start + row, evaluation_error(&error))));
            let repaired =
                if on_error == OnError::Null && len == 1 { with_nulls(expression, batch).ok() } else { None };
            repaired.unwrap_or_else(|| nulls(expression, &batch.schema(), len))
        }
        Err(_) => {
            let half = len / 2;
            let first = evaluate_part(expression, &batch.slice(0, half), start, on_error, failures);
            let second = evaluate_part(expression, &batch.slice(half, len - half), start + half, on_error, failures);
            match concat(&[first.as_ref(), second.as_ref()]) {
                Ok(values) => values,
                Err(error) => {
                    let error = PgError::internal(error.to_string());
                    failures.extend((start..start + len).map(|row| (row, error.clone())));
                    nulls(expression, &batch.schema(), len)
                }
            }
        }
    }
}

/// The value of an expression over one row, the parts of it that fail being NULL.
fn with_nulls(expression: &Arc<dyn PhysicalExpr>, row: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    if let Ok(value) = expression.evaluate(row).and_then(|value| value.into_array(1)) {
        return Ok(value);
    }
    let parts = expression.children().into_iter().map(|part| {
        let value = ScalarValue::try_from_array(&with_nulls(part, row)?, 0)?;
        Ok(Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>)
    });
    let parts = parts.collect::<Result<Vec<_>, DataFusionError>>()?;
    let evaluated = Arc::clone(expression).with_new_children(parts).and_then(|whole| whole.evaluate(row));
    evaluated.and_then(|value| value.into_array(1)).or_else(|_| Ok(nulls(expression, &row.schema(), 1)))
}

/// A container's rows without its hashes.
struct Rows {
    columns: Vec<ArrayRef>,
    times: Lane<repr::Timestamp>,
    diffs: Lane<repr::Diff>,
}

impl Rows {
    fn len(&self) -> usize {
        self.times.len()
    }

    /// The rows where `kept` is true.
    fn filter(self, kept: &BooleanArray) -> Rows {
        self.filter_some(kept, |_| true)
    }

    /// The rows where `kept` is true; columns that are not `wanted` stay as they were, and must not be read.
    fn filter_some(self, kept: &BooleanArray, wanted: impl Fn(usize) -> bool) -> Rows {
        let kept = definite(kept);
        let count = kept.true_count();
        if count == self.len() {
            return self;
        }
        let columns = self.columns.iter().enumerate();
        let columns = columns
            .map(|(index, column)| if wanted(index) { filter_column(column, &kept) } else { column.clone() })
            .collect();
        Rows { columns, times: filter_lane(self.times, &kept, count), diffs: filter_lane(self.diffs, &kept, count) }
    }
}

/// False in place of NULL. (Arrow's own function takes no mask without NULLs.)
pub(crate) fn definite(values: &BooleanArray) -> BooleanArray {
    if values.null_count() == 0 { values.clone() } else { prep_null_mask_filter(values) }
}

/// The rows of `column` where `kept` is true.
pub(crate) fn filter_column(column: &ArrayRef, kept: &BooleanArray) -> ArrayRef {
    filter(column.as_ref(), kept).expect("a mask as long as the column")
}

/// The values of `lane` where `kept` is true, `count` of them.
pub(crate) fn filter_lane<X: Copy + PartialEq>(lane: Lane<X>, kept: &BooleanArray, count: usize) -> Lane<X> {
    match lane {
        Lane::Constant(value, _) => Lane::Constant(value, count),
        Lane::Values(values) => Lane::Values(kept.values().set_indices().map(|row| values[row]).collect()),
    }
}
