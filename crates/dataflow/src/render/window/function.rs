//! Window calls, compiled for the columns they read.
//!
//! A call is evaluated by DataFusion over the rows of a partition. Where only the end of a partition is at hand, what
//! comes before it is given as [`Partial`]s: a number of rows, the state of an aggregate.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{SortOptions, cast, partition};
use arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Accumulator, Expr, WindowFrameUnits};
use datafusion::physical_expr::window::{PlainAggregateWindowExpr, WindowExpr};
use datafusion::physical_planner::create_window_expr_with_name;
use plan::dataflow_plan::{Node, SortKey, longest_order};
use plan::reach::{Reach, Running, reach};
use repr::PgError;

use crate::DataflowError;
use crate::errors::evaluation_error;
use crate::expression::{columns_read, definite};

/// The calls of one operator.
pub(crate) struct Functions {
    /// The input's columns that are read, by position.
    columns: Vec<usize>,
    schema: SchemaRef,
    calls: Vec<Call>,
    types: Vec<DataType>,
    order: Vec<SortKey>,
    /// What sorts by the order; None where there is none.
    converter: Option<RowConverter>,
}

struct Call {
    expr: Arc<dyn WindowExpr>,
    reach: Reach,
    /// The column, among those read, of an aggregate's FILTER.
    filter: Option<usize>,
}

/// What some rows come to for a call, as far as rows behind them want to know.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Partial {
    /// No rows, or nobody wants to know.
    Nothing,
    /// Rows, or groups of peers.
    Count(u64),
    /// The state of an aggregate.
    State(Vec<ScalarValue>),
    /// The value of the first row.
    First(ScalarValue),
}

impl Functions {
    /// Compiles `calls` over rows of `input`, whose results are the last columns of `output`.
    pub(crate) fn new(input: &Node, calls: &[Expr], output: &Node) -> Result<Functions, DataflowError> {
        let columns = columns_read(calls, &input.schema)?;
        let invalid = |error: &dyn std::fmt::Display| DataflowError::InvalidPlan(error.to_string());
        let schema = Arc::new(input.schema.project(&columns).map_err(|error| invalid(&error))?);
        let df_schema = DFSchema::try_from(schema.clone()).map_err(|error| invalid(&error))?;
        let fields = output.schema.fields();
        let Some(first) = fields.len().checked_sub(calls.len()) else {
            return Err(DataflowError::InvalidPlan("a window has a schema of another width".to_owned()));
        };
        let types = fields.iter().skip(first).map(|field| field.data_type().clone()).collect();
        let compiled = calls.iter().enumerate().map(|(index, call)| {
            let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
            let expr = create_window_expr_with_name(call, format!("call {index}"), &df_schema, &props, &context)
                .map_err(|error| DataflowError::Plan(evaluation_error(&error)))?;
            let filter = match call {
                Expr::WindowFunction(call) => call.params.filter.as_deref(),
                _ => None,
            };
            let filter = match filter {
                Some(Expr::Column(column)) => Some(schema.index_of(&column.name).map_err(|error| invalid(&error))?),
                Some(other) => return Err(invalid(&format!("the filter {other} is no column"))),
                None => None,
            };
            Ok(Call { expr, reach: reach(call), filter })
        });
        let compiled = compiled.collect::<Result<Vec<_>, _>>()?;
        let order = longest_order(calls);
        let sort_fields = order.iter().map(|key| {
            let options = SortOptions { descending: key.descending, nulls_first: key.nulls_first };
            SortField::new_with_options(input.schema.field(key.column).data_type().clone(), options)
        });
        let converter = match order.is_empty() {
            true => None,
            false => {
                let converter = RowConverter::new(sort_fields.collect());
                Some(converter.map_err(|error| {
                    DataflowError::Plan(PgError::unsupported(format!("a window ordered by such a column ({error})")))
                })?)
            }
        };
        Ok(Functions { columns, schema, calls: compiled, types, order, converter })
    }

    /// The input's columns that [`Functions::evaluate`] wants, in order.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The order of the rows of a partition.
    pub(crate) fn order(&self) -> &[SortKey] {
        &self.order
    }

    /// The types of the calls' values.
    pub(crate) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// How many rows before and after it a row's value depends on at most, besides those that partials sum up.
    pub(super) fn neighbours(&self) -> (usize, usize) {
        let near = self.calls.iter().map(|call| match call.reach {
            Reach::Near { before, after } => (before, after),
            _ => (0, 0),
        });
        near.reduce(|left, right| (left.0.max(right.0), left.1.max(right.1))).unwrap_or_default()
    }

    /// Whether a part of a partition can be evaluated by itself.
    pub(super) fn is_divisible(&self) -> bool {
        !self.order.is_empty() && self.calls.iter().all(|call| call.reach != Reach::Whole)
    }

    /// Whether any call wants to know what comes before.
    pub(super) fn is_running(&self) -> bool {
        self.calls.iter().any(|call| matches!(call.reach, Reach::Running(_)))
    }

    /// `row_count` rows sorted within each of `ranges`, which follow one another; those that are equal stay as they are.
    pub(super) fn sorted(&self, columns: &[ArrayRef], row_count: usize, ranges: &[Range<usize>]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..row_count as u32).collect();
        let Some(converter) = &self.converter else { return order };
        let keys = self.order.iter().filter_map(|key| self.columns.iter().position(|column| *column == key.column));
        let keys: Vec<ArrayRef> = keys.map(|at| columns[at].clone()).collect();
        let rows = converter.convert_columns(&keys).expect("columns of the types it was made for");
        for range in ranges {
            order[range.clone()].sort_by(|left, right| rows.row(*left as usize).cmp(&rows.row(*right as usize)));
        }
        order
    }

    /// The values of all calls over rows `range` of `columns`, a sorted partition, or the end of one: `prefix` is then what
    /// the rows before come to.
    pub(super) fn evaluate(
        &self,
        columns: &[ArrayRef],
        range: Range<usize>,
        prefix: &[Partial],
    ) -> Result<Vec<ArrayRef>, PgError> {
        let batch = self.batch(columns, range)?;
        let values = self.calls.iter().zip(&self.types).enumerate().map(|(index, (call, data_type))| {
            let values = call.evaluate(&batch, prefix.get(index).unwrap_or(&Partial::Nothing))?;
            match values.data_type() == data_type {
                true => Ok(values),
                false => Ok(cast(&values, data_type)?),
            }
        });
        values.collect::<Result<_, DataFusionError>>().map_err(|error| evaluation_error(&error))
    }

    /// What rows `range` of `columns`, which are sorted, come to for each call.
    pub(super) fn partials(&self, columns: &[ArrayRef], range: Range<usize>) -> Result<Vec<Partial>, PgError> {
        let batch = self.batch(columns, range)?;
        let partials = self.calls.iter().map(|call| call.partial(&batch));
        partials.collect::<Result<_, DataFusionError>>().map_err(|error| evaluation_error(&error))
    }

    /// What stretches of rows that follow one another come to together.
    pub(super) fn add_up<'p>(&self, parts: impl Iterator<Item = &'p [Partial]>) -> Result<Vec<Partial>, PgError> {
        if !self.is_running() {
            return Ok(Vec::new());
        }
        let parts: Vec<&[Partial]> = parts.collect();
        let sums = self.calls.iter().enumerate().map(|(index, call)| {
            let known = parts.iter().filter_map(|part| part.get(index)).filter(|part| **part != Partial::Nothing);
            call.add_up(&known.collect::<Vec<_>>())
        });
        sums.collect::<Result<_, DataFusionError>>().map_err(|error| evaluation_error(&error))
    }

    fn batch(&self, columns: &[ArrayRef], range: Range<usize>) -> Result<RecordBatch, PgError> {
        let columns = columns.iter().map(|column| column.slice(range.start, range.len())).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| PgError::internal(error.to_string()))
    }

    /// NULLs in the place of values.
    pub(crate) fn nulls(&self, len: usize) -> Vec<ArrayRef> {
        self.types.iter().map(|data_type| new_null_array(data_type, len)).collect()
    }
}

impl Call {
    fn evaluate(&self, batch: &RecordBatch, prefix: &Partial) -> Result<ArrayRef, DataFusionError> {
        match prefix {
            Partial::Nothing => self.expr.evaluate(batch),
            Partial::Count(count) => {
                let numbers = cast(&self.expr.evaluate(batch)?, &DataType::UInt64)?;
                Ok(Arc::new(numbers.as_primitive::<UInt64Type>().unary::<_, UInt64Type>(|number| number + count)))
            }
            Partial::First(value) => value.to_array_of_size(batch.num_rows()),
            Partial::State(state) => self.aggregate_on(state, batch),
        }
    }

    /// A running aggregate that goes on from `state`.
    fn aggregate_on(&self, state: &[ScalarValue], batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        let mut accumulator = self.accumulator()?;
        accumulator.merge_batch(&arrays([state].into_iter())?)?;
        let arguments = self.expr.evaluate_args(batch)?;
        let filter = self.filter.map(|column| definite(batch.column(column).as_boolean()));
        let row_count = batch.num_rows();
        let order: Vec<ArrayRef> = self.expr.order_by_columns(batch)?.into_iter().map(|column| column.values).collect();
        let steps: Vec<Range<usize>> = match self.expr.get_window_frame().units {
            WindowFrameUnits::Rows => (0..row_count).map(|row| row..row + 1).collect(),
            // Without an order all rows are peers.
            _ if order.is_empty() => std::iter::once(0..row_count).collect(),
            _ => partition(&order)?.ranges(),
        };
        let mut values = Vec::with_capacity(row_count);
        for peers in steps {
            let mut rows: Vec<ArrayRef> =
                arguments.iter().map(|column| column.slice(peers.start, peers.len())).collect();
            if let Some(filter) = &filter {
                let kept = filter.slice(peers.start, peers.len());
                for column in &mut rows {
                    *column = arrow::compute::filter(column.as_ref(), &kept)?;
                }
            }
            accumulator.update_batch(&rows)?;
            let value = accumulator.evaluate()?;
            values.extend(std::iter::repeat_n(value, peers.len()));
        }
        ScalarValue::iter_to_array(values)
    }

    fn partial(&self, batch: &RecordBatch) -> Result<Partial, DataFusionError> {
        if batch.num_rows() == 0 {
            return Ok(Partial::Nothing);
        }
        Ok(match self.reach {
            Reach::Near { .. } | Reach::Whole => Partial::Nothing,
            Reach::Running(Running::Rows) => Partial::Count(batch.num_rows() as u64),
            Reach::Running(Running::Groups) => {
                let numbers = cast(&self.expr.evaluate(batch)?, &DataType::UInt64)?;
                Partial::Count(numbers.as_primitive::<UInt64Type>().value(batch.num_rows() - 1))
            }
            Reach::Running(Running::First) => {
                let arguments = self.expr.evaluate_args(batch)?;
                Partial::First(ScalarValue::try_from_array(&arguments[0], 0)?)
            }
            Reach::Running(Running::Aggregate) => {
                let mut accumulator = self.accumulator()?;
                let mut rows = self.expr.evaluate_args(batch)?;
                if let Some(column) = self.filter {
                    let filter = definite(batch.column(column).as_boolean());
                    for column in &mut rows {
                        *column = arrow::compute::filter(column.as_ref(), &filter)?;
                    }
                }
                accumulator.update_batch(&rows)?;
                Partial::State(accumulator.state()?)
            }
        })
    }

    /// The sum of partials, none of which is nothing.
    fn add_up(&self, parts: &[&Partial]) -> Result<Partial, DataFusionError> {
        let states = || {
            parts.iter().filter_map(|part| match part {
                Partial::State(state) => Some(&state[..]),
                _ => None,
            })
        };
        match parts {
            [] => Ok(Partial::Nothing),
            [only] => Ok((*only).clone()),
            [first @ Partial::First(_), ..] => Ok((*first).clone()),
            [Partial::State(_), ..] => {
                let mut accumulator = self.accumulator()?;
                accumulator.merge_batch(&arrays(states())?)?;
                Ok(Partial::State(accumulator.state()?))
            }
            _ => {
                let counts = parts.iter().map(|part| if let Partial::Count(count) = part { *count } else { 0 });
                Ok(Partial::Count(counts.sum()))
            }
        }
    }

    fn accumulator(&self) -> Result<Box<dyn Accumulator>, DataFusionError> {
        match self.expr.as_any().downcast_ref::<PlainAggregateWindowExpr>() {
            Some(aggregate) => aggregate.get_aggregate_expr().create_accumulator(),
            None => Err(DataFusionError::Internal("a running aggregate whose frame moves".to_owned())),
        }
    }
}

/// States of one aggregate as columns.
fn arrays<'s>(states: impl Iterator<Item = &'s [ScalarValue]>) -> Result<Vec<ArrayRef>, DataFusionError> {
    let states: Vec<&[ScalarValue]> = states.collect();
    let width = states.first().map_or(0, |state| state.len());
    (0..width).map(|column| ScalarValue::iter_to_array(states.iter().map(|state| state[column].clone()))).collect()
}
