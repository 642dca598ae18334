//! Aggregates that need all rows of their group: when a group changes, it is read back from the arrangement and
//! aggregated anew, by the very code that a one-shot `SELECT` runs.
//!
//! Many groups are aggregated at once, each before and after its change, so that a small group costs little more than
//! its rows. Only if that fails is each group aggregated by itself: those that fail are errors for as long as they do.
//! The order in which a group's rows are handed over is definite but means nothing: aggregates that care for one order
//! their rows themselves.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array,
};
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{EmitTo, Expr};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr, create_physical_expr};
use plan::dataflow_plan::Node;
use repr::{Diff, Lane, PgError, Timestamp};

use super::group::{ChangedGroup, Picked, changed_groups};
use super::{BatchLogic, Output};
use crate::DataflowError;
use crate::arrange::Batch;
use crate::chunk::CHUNK_ROWS_MAX;
use crate::errors::{ErrorRow, ErrorUpdates, evaluation_error};
use crate::updates::{Updates, take_rows};

/// The calls, compiled for one input schema.
pub(crate) struct FoldFunction {
    schema: SchemaRef,
    key: Vec<usize>,
    calls: Vec<Call>,
}

struct Call {
    function: AggregateFunctionExpr,
    /// The arguments, then what ORDER BY names: what an accumulator takes.
    values: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

impl FoldFunction {
    /// Fails on a call that cannot be compiled, or whose result has another type than `output` declares.
    pub(crate) fn new(
        input: &Node,
        output: &Node,
        key: &[usize],
        calls: &[Expr],
    ) -> Result<FoldFunction, DataflowError> {
        let invalid = |what: String| DataflowError::InvalidPlan(what);
        if output.schema.fields().len() != key.len() + calls.len() {
            return Err(invalid("a fold has a schema of another width".to_owned()));
        }
        let compiled = calls
            .iter()
            .map(|call| compile(call, &input.schema).map_err(|error| DataflowError::Plan(evaluation_error(&error))))
            .collect::<Result<Vec<_>, _>>()?;
        for (call, field) in compiled.iter().zip(output.schema.fields().iter().skip(key.len())) {
            let found = call.function.field();
            if found.data_type() != field.data_type() {
                let (name, declared, found) = (call.function.name(), field.data_type(), found.data_type());
                return Err(invalid(format!("{name} is declared {declared} and computed {found}")));
            }
        }
        Ok(FoldFunction { schema: Arc::clone(&input.schema), key: key.to_vec(), calls: compiled })
    }

    /// One array a call over groups of consecutive rows.
    fn evaluate(&self, rows: &RecordBatch, groups: &[Range<usize>]) -> DataFusionResult<Vec<ArrayRef>> {
        let numbers: Vec<usize> =
            groups.iter().enumerate().flat_map(|(number, rows)| std::iter::repeat_n(number, rows.len())).collect();
        self.calls.iter().map(|call| call.evaluate(rows, &numbers, groups.len())).collect()
    }

    /// The output rows of groups of consecutive rows, of each of which `changes` says when it comes or goes. A group that
    /// fails becomes `errors` of `operator`.
    pub(crate) fn answers(
        &self,
        operator: &str,
        rows: &RecordBatch,
        states: &[Range<usize>],
        changes: impl Iterator<Item = (usize, Timestamp, Diff)>,
        errors: &mut ErrorUpdates,
    ) -> Updates {
        let firsts = UInt32Array::from_iter_values(states.iter().map(|state| state.start as u32));
        let keys: Vec<ArrayRef> = self.key.iter().map(|column| take_rows(rows.column(*column), &firsts)).collect();
        let (results, failures) = match self.evaluate(rows, states) {
            Ok(results) => (results, Vec::new()),
            Err(_) => self.one_by_one(rows, states),
        };
        // Where each state's results are; those that failed have none.
        let mut places = Vec::with_capacity(states.len());
        let mut failed = failures.iter().peekable();
        let mut place = 0;
        for state in 0..states.len() {
            match failed.next_if(|failure| failure.0 == state) {
                Some((_, error)) => places.push(Err(error)),
                None => {
                    places.push(Ok(place));
                    place += 1;
                }
            }
        }
        let (mut states, mut rows, mut times, mut diffs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (state, time, diff) in changes {
            match places[state] {
                Ok(row) => {
                    states.push(state as u32);
                    rows.push(row as u32);
                    times.push(time);
                    diffs.push(diff);
                }
                Err(error) => errors.push((ErrorRow::new(operator, &keys, state, error), time, diff)),
            }
        }
        let (states, rows) = (UInt32Array::from(states), UInt32Array::from(rows));
        let of_keys = keys.iter().map(|column| take_rows(column, &states));
        let of_calls = (0..self.calls.len()).map(|call| match results.get(call) {
            Some(column) => take_rows(column, &rows),
            // No state has results.
            None => new_empty_array(self.calls[call].function.field().data_type()),
        });
        let columns = of_keys.chain(of_calls).collect();
        Updates::new(columns, Lane::Values(times).compress(), Lane::Values(diffs).compress())
    }

    /// The results of the states that have one, and the others with their errors, ascending.
    fn one_by_one(&self, rows: &RecordBatch, states: &[Range<usize>]) -> (Vec<ArrayRef>, Vec<(usize, PgError)>) {
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.calls.len()];
        let mut failures = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let rows = rows.slice(state.start, state.len());
            match self.evaluate(&rows, std::slice::from_ref(&(0..state.len()))) {
                Ok(results) => parts.iter_mut().zip(results).for_each(|(parts, result)| parts.push(result)),
                Err(error) => failures.push((index, evaluation_error(&error))),
            }
        }
        let joined = |parts: Vec<ArrayRef>| {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            concat(&parts).expect("results of one call have one type")
        };
        let results = if failures.len() == states.len() { Vec::new() } else { parts.into_iter().map(joined).collect() };
        (results, failures)
    }
}

fn compile(call: &Expr, schema: &SchemaRef) -> DataFusionResult<Call> {
    let Expr::AggregateFunction(call) = call else {
        return Err(DataFusionError::Internal(format!("{call} is not an aggregate call")));
    };
    let columns = DFSchema::try_from(schema.as_ref().clone())?;
    let physical =
        |expr: &Expr| create_physical_expr(expr, &columns, &ExecutionProps::new(), &PhysicalPlanningContext::default());
    let arguments = call.params.args.iter().map(physical).collect::<DataFusionResult<Vec<_>>>()?;
    let mut order = Vec::new();
    for sort in &call.params.order_by {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        order.push(PhysicalSortExpr::new(physical(&sort.expr)?, options));
    }
    let values = arguments.iter().chain(order.iter().map(|sort| &sort.expr)).cloned().collect();
    let function = AggregateExprBuilder::new(Arc::clone(&call.func), arguments)
        .order_by(order)
        .schema(Arc::clone(schema))
        .alias(call.func.name())
        .with_distinct(call.params.distinct)
        .build()?;
    let filter = call.params.filter.as_deref().map(physical).transpose()?;
    Ok(Call { function, values, filter })
}

impl Call {
    fn evaluate(&self, rows: &RecordBatch, numbers: &[usize], group_count: usize) -> DataFusionResult<ArrayRef> {
        let len = rows.num_rows();
        let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(rows)?.into_array(len);
        let values = self.values.iter().map(array).collect::<DataFusionResult<Vec<_>>>()?;
        let filter = self.filter.as_ref().map(array).transpose()?;
        let filter: Option<&BooleanArray> = filter.as_ref().map(|filter| filter.as_boolean());
        let mut accumulator = self.function.create_groups_accumulator()?;
        accumulator.update_batch(&values, numbers, filter, group_count)?;
        let result = accumulator.evaluate(EmitTo::All)?;
        match result.len() == group_count {
            true => Ok(result),
            false => Err(DataFusionError::Internal(format!("{} lost a group", self.function.name()))),
        }
    }
}

/// Aggregates each changed group anew.
pub(crate) struct Fold {
    function: FoldFunction,
    operator: String,
}

impl Fold {
    /// `operator` names it in errors.
    pub(crate) fn new(function: FoldFunction, operator: String) -> Fold {
        Fold { function, operator }
    }

    /// Aggregates the states that wait, and puts out the rows that they make.
    fn flush(&self, waiting: &mut Waiting, output: &mut Output) {
        if !waiting.changes.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(waiting.rows.rows.len()));
            let columns = waiting.rows.columns();
            let rows = RecordBatch::try_new_with_options(Arc::clone(&self.function.schema), columns, &options);
            let rows = rows.expect("an arrangement has the columns of its node");
            let changes = waiting.changes.drain(..);
            let updates = self.function.answers(&self.operator, &rows, &waiting.states, changes, &mut output.errors);
            if !updates.is_empty() {
                output.updates.push(updates);
            }
        }
        waiting.clear();
    }
}

/// Groups that wait to be aggregated.
struct Waiting {
    /// The rows of all states.
    rows: Picked,
    /// What a group was or became: its rows among `rows`, at least one.
    states: Vec<Range<usize>>,
    /// When which state comes or goes.
    changes: Vec<(usize, Timestamp, Diff)>,
}

impl Waiting {
    /// Reads a group as of a time, or before the batch; None if nothing is there.
    fn read(&mut self, group: &ChangedGroup<'_>, until: Option<Timestamp>) -> Option<usize> {
        let start = self.rows.rows.len();
        for live in group.rows(until) {
            let row = self.rows.locate(group.batches, live.place);
            self.rows.rows.extend(std::iter::repeat_n(row, live.count as usize));
        }
        let rows = start..self.rows.rows.len();
        (!rows.is_empty()).then(|| {
            self.states.push(rows);
            self.states.len() - 1
        })
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.states.clear();
        self.changes.clear();
    }
}

impl BatchLogic for Fold {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut batches = prior.to_vec();
        batches.push(novel.clone());
        let mut waiting = Waiting { rows: Picked::default(), states: Vec::new(), changes: Vec::new() };
        changed_groups(&batches, &self.function.key, as_of, |group| {
            let mut before = if group.is_new() { None } else { waiting.read(&group, None) };
            for time in group.times {
                let after = waiting.read(&group, Some(*time));
                waiting.changes.extend(before.map(|state| (state, *time, -1)));
                waiting.changes.extend(after.map(|state| (state, *time, 1)));
                before = after;
            }
            if waiting.rows.rows.len() >= CHUNK_ROWS_MAX {
                self.flush(&mut waiting, output);
            }
        });
        self.flush(&mut waiting, output);
    }
}
