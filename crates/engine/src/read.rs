//! One-shot evaluation: an optimised plan and its relations' rows become a DataFusion physical plan and a stream.
//!
//! The plan's scans are [`ScanSlot`]s: tables without rows until [`crate::select`] has peeked, so that a plan is walked and
//! rewritten once. One thread per query, batches of 8,192 rows: with many sessions that beats splitting one query.
//!
//! DataFusion's operators compute until they have a batch, which can be long. Plans that can take long therefore run on threads
//! of their own ([`Evaluator::stream`]): the server's threads go on listening, also to a request to cancel.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session as PlannerSession, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use repr::{ObjectId, PgError, RelationSchema, SqlState};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::errors::from_datafusion;
use crate::physical_rules::physical_rules;
use crate::response::RowStream;

/// Rows a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// A plan that reads at most this many rows, one at a time, runs where its session does: a lookup by key is over before it
/// could have been handed to another thread.
const LIGHT_ROWS: usize = 10_000;

/// What evaluates plans. One for the whole engine; it holds no state of a query.
pub(crate) struct Evaluator {
    state: SessionState,
    planner: DefaultPhysicalPlanner,
    task: Arc<TaskContext>,
    /// Where plans run that can take long; there until the evaluator is dropped.
    threads: Option<Runtime>,
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        // A runtime must not be waited for inside another.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Evaluator {
    /// `memory_limit_bytes` bounds what all queries together may hold besides the relations they read; a query that would
    /// exceed it fails with `53200`.
    pub(crate) fn new(memory_limit_bytes: Option<u64>) -> Result<Evaluator, PgError> {
        let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
        config.options_mut().catalog.create_default_catalog_and_schema = false;
        // Nullability that rules derive on the way may differ between the two plans; the types were checked at binding.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(limit) = memory_limit_bytes {
            runtime = runtime.with_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX), 1.0);
        }
        let runtime = runtime.build_arc().map_err(from_datafusion)?;
        let state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime);
        let state = state.with_physical_optimizer_rules(physical_rules()).build();
        let task = state.task_ctx();
        let threads = tokio::runtime::Builder::new_multi_thread().thread_name("query").enable_all().build();
        let threads = threads.map_err(|error| PgError::internal(format!("no threads for queries: {error}")))?;
        Ok(Evaluator { state, planner: DefaultPhysicalPlanner::default(), task, threads: Some(threads) })
    }

    /// Starts a plan whose slots are all filled. Dropping the stream ends the work at the operators' next batch.
    pub(crate) async fn stream(&self, plan: &LogicalPlan) -> Result<RowStream, PgError> {
        let physical = self.planner.create_physical_plan(plan, &self.state).await.map_err(from_datafusion)?;
        if is_light(physical.as_ref()) {
            let stream = execute_stream(physical, Arc::clone(&self.task)).map_err(from_datafusion)?;
            return Ok(Box::pin(stream.map(|batch| batch.map_err(from_datafusion))));
        }
        let physical = yielding(physical).map_err(from_datafusion)?;
        let stream = execute_stream(physical, Arc::clone(&self.task)).map_err(from_datafusion)?;
        match &self.threads {
            Some(threads) => Ok(running_on(threads, Box::pin(stream.map(|batch| batch.map_err(from_datafusion))))),
            None => Err(PgError::internal("the evaluator is gone")),
        }
    }

    /// The state, for expressions that are evaluated without a plan.
    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }
}

/// Whether a plan reads few rows and combines none with another.
fn is_light(plan: &dyn ExecutionPlan) -> bool {
    match plan.children().as_slice() {
        [] => match StatisticsContext::new().compute(plan, &StatisticsArgs::new()) {
            Ok(statistics) => statistics.num_rows.get_value().is_some_and(|rows| *rows <= LIGHT_ROWS),
            Err(_) => false,
        },
        // Lists can be of any length.
        [input] => !plan.is::<UnnestExec>() && is_light(input.as_ref()),
        _ => false,
    }
}

/// The plan with a place to stop after each batch of the operators that make many rows of few. DataFusion has such places at
/// the leaves only, and a join may not come to its leaves for hours.
fn yielding(plan: Arc<dyn ExecutionPlan>) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        let makes_rows = node.children().len() > 1 || node.is::<UnnestExec>();
        Ok(match makes_rows {
            true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(node),
        })
    });
    Ok(wrapped?.data)
}

/// `rows`, computed by a task of `threads`, which ends when the stream returned is dropped.
fn running_on(threads: &Runtime, mut rows: RowStream) -> RowStream {
    let (sender, receiver) = mpsc::channel(2);
    // A set of one task, because it aborts its tasks when it is dropped.
    let mut task = JoinSet::new();
    let send_all = async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    };
    task.spawn_on(send_all, threads.handle());
    Box::pin(futures::stream::unfold(Some((receiver, task)), |state| async move {
        let (mut receiver, mut task) = state?;
        match receiver.recv().await {
            Some(batch) => Some((batch, Some((receiver, task)))),
            // The task is over: it has sent all, or it has panicked.
            None => match task.join_next().await {
                Some(Err(error)) => Some((Err(PgError::internal(format!("a query's task failed: {error}"))), None)),
                Some(Ok(())) | None => None,
            },
        }
    }))
}

/// The rows of one relation, as one statement sees them.
pub(crate) enum ScanRows {
    /// All of them.
    Batches(Vec<RecordBatch>),
    /// As they are read.
    Stream(Arc<dyn PartitionStream>),
}

/// A scan in a plan: which relation, and its rows once they are known.
pub(crate) struct ScanSlot {
    pub(crate) relation: ObjectId,
    pub(crate) schema: SchemaRef,
    rows: OnceLock<ScanRows>,
}

impl ScanSlot {
    pub(crate) fn new(relation: ObjectId, schema: SchemaRef) -> ScanSlot {
        ScanSlot { relation, schema, rows: OnceLock::new() }
    }

    /// Gives the slot its rows; a second time changes nothing.
    pub(crate) fn fill(&self, rows: ScanRows) {
        let _ = self.rows.set(rows);
    }
}

impl fmt::Debug for ScanSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanSlot({})", self.relation)
    }
}

#[async_trait]
impl TableProvider for ScanSlot {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn PlannerSession,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        match self.rows.get() {
            Some(ScanRows::Batches(batches)) => {
                let partition = [batches.clone()];
                Ok(MemorySourceConfig::try_new_exec(&partition, Arc::clone(&self.schema), projection.cloned())?)
            }
            Some(ScanRows::Stream(stream)) => Ok(Arc::new(StreamingTableExec::try_new(
                Arc::clone(&self.schema),
                vec![Arc::clone(stream)],
                projection,
                None,
                false,
                limit,
            )?)),
            None => Err(DataFusionError::Internal(format!("the rows of relation {} were not read", self.relation))),
        }
    }
}

/// Columns under the names of `schema`. A relation may have none, hence the count.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, row_count: usize) -> Result<RecordBatch, PgError> {
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| PgError::internal(format!("rows do not have their relation's columns: {error}")))
}

/// A batch of a response's columns.
pub(crate) fn response_batch(
    schema: &RelationSchema,
    columns: Vec<ArrayRef>,
    row_count: usize,
) -> Result<RecordBatch, PgError> {
    batch(&schema.arrow(), columns, row_count)
}

/// The schema of positional columns.
pub(crate) fn positional(columns: &[ArrayRef]) -> SchemaRef {
    let field = |(index, column): (usize, &ArrayRef)| Field::new(format!("#{index}"), column.data_type().clone(), true);
    Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// A stream of what is there already.
pub(crate) fn stream_of(batches: Vec<RecordBatch>) -> RowStream {
    Box::pin(futures::stream::iter(batches.into_iter().map(Ok)))
}

/// All rows of a stream, as columns of `types`, and their number.
pub(crate) async fn collect(mut rows: RowStream, schema: &SchemaRef) -> Result<(Vec<ArrayRef>, usize), PgError> {
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    concat(batches, schema)
}

/// Batches end to end. Their column types must be those of `schema`.
pub(crate) fn concat(batches: Vec<RecordBatch>, schema: &SchemaRef) -> Result<(Vec<ArrayRef>, usize), PgError> {
    let row_count = batches.iter().map(RecordBatch::num_rows).sum();
    if let [batch] = batches.as_slice() {
        return Ok((batch.columns().to_vec(), row_count));
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        columns.push(match parts.is_empty() {
            true => arrow::array::new_empty_array(field.data_type()),
            false => arrow::compute::concat(&parts).map_err(|error| PgError::internal(error.to_string()))?,
        });
    }
    Ok((columns, row_count))
}

/// The plan with `$n` replaced by the parameters, `$1` first, arrays of one row each.
///
/// DataFusion's own replacement also computes schemas anew, and a VALUES list then forgets what its columns are called.
pub(crate) fn with_parameters(plan: LogicalPlan, parameters: &[ArrayRef]) -> Result<LogicalPlan, PgError> {
    if parameters.is_empty() {
        return Ok(plan);
    }
    let replaced = plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| replaced(expr, parameters)));
    Ok(replaced.map_err(from_datafusion)?.data)
}

/// Expressions over a statement's rows, as ON CONFLICT and RETURNING have them, with `$n` replaced by the parameters.
pub(crate) fn with_parameters_each<'e>(
    exprs: impl IntoIterator<Item = &'e Expr>,
    parameters: &[ArrayRef],
) -> Result<Vec<Expr>, PgError> {
    let replace = |expr: &Expr| Ok(replaced(expr.clone(), parameters).map_err(from_datafusion)?.data);
    exprs.into_iter().map(replace).collect()
}

fn replaced(expr: Expr, parameters: &[ArrayRef]) -> Result<Transformed<Expr>, DataFusionError> {
    let value_of = |id: &str| {
        let index = id.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let array = index.and_then(|index| parameters.get(index.checked_sub(1)?)).ok_or_else(|| {
            let message = format!("there is no parameter {id}");
            DataFusionError::External(Box::new(PgError::new(SqlState::UNDEFINED_PARAMETER, message)))
        })?;
        ScalarValue::try_from_array(array, 0)
    };
    expr.transform_up(|expr| match expr {
        Expr::Placeholder(placeholder) => Ok(Transformed::yes(Expr::Literal(value_of(&placeholder.id)?, None))),
        other => Ok(Transformed::no(other)),
    })
}
