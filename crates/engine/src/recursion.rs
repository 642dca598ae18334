//! WITH MUTUALLY RECURSIVE in a one-shot read: its bindings are evaluated again and again until nothing changes, each over the
//! rows that the bindings before it have just got and that the others had.
//!
//! What is left of it then is the query over the bindings, whose scans have the rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;
use plan::mutual_recursion::MutualRecursion;
use repr::PgError;

use crate::errors::from_datafusion;
use crate::read::{Evaluator, batch, collect};

/// The rows of each binding, by what its scans are called.
type Bindings = HashMap<String, RecordBatch>;

impl Evaluator {
    /// The plan without loops, those having been evaluated. All of its slots are filled.
    ///
    /// Errors: `54000` for a loop that does not end; what evaluating it raises.
    pub(crate) async fn without_loops(&self, mut plan: LogicalPlan) -> Result<LogicalPlan, PgError> {
        while let Some(recursion) = first_loop(&plan)? {
            let solved = Box::pin(self.solve(&recursion)).await?;
            plan = replace_first_loop(plan, &solved)?;
        }
        Ok(plan)
    }

    /// The query over the bindings, as they are in the end.
    async fn solve(&self, recursion: &MutualRecursion) -> Result<LogicalPlan, PgError> {
        let mut bindings = Bindings::new();
        let mut contents = Vec::new();
        for (name, plan) in recursion.names.iter().zip(&recursion.bindings) {
            bindings.insert(name.clone(), RecordBatch::new_empty(Arc::clone(plan.schema().inner())));
            contents.push(Vec::new());
        }
        for iteration in 1.. {
            let mut changed = false;
            for ((name, plan), before) in recursion.names.iter().zip(&recursion.bindings).zip(&mut contents) {
                let rows = self.evaluate(plan.clone(), &bindings).await?;
                let after = content(&rows)?;
                changed |= *before != after;
                *before = after;
                bindings.insert(name.clone(), rows);
            }
            if !changed || (recursion.limit.returns && iteration == recursion.limit.count) {
                break;
            }
            if iteration == recursion.limit.count {
                return Err(recursion.limit.error());
            }
        }
        bound(recursion.body.clone(), &bindings)
    }

    /// The rows of one binding.
    async fn evaluate(&self, plan: LogicalPlan, bindings: &Bindings) -> Result<RecordBatch, PgError> {
        let schema = Arc::clone(plan.schema().inner());
        let plan = bound(plan, bindings)?;
        let plan = Box::pin(self.without_loops(plan)).await?;
        let (columns, row_count) = collect(self.stream(&plan).await?, &schema).await?;
        batch(&nullable(&schema), columns, row_count)
    }
}

/// Nobody promises of a binding's rows what its query would.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows, each as bytes, in an order of their own: equal for equal multisets of rows.
fn content(rows: &RecordBatch) -> Result<Vec<Box<[u8]>>, PgError> {
    let failed = |error: arrow::error::ArrowError| PgError::internal(format!("comparing a recursion's rows: {error}"));
    if rows.num_columns() == 0 {
        return Ok(vec![Box::default(); rows.num_rows()]);
    }
    let fields = rows.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let encoded = RowConverter::new(fields).map_err(failed)?.convert_columns(rows.columns()).map_err(failed)?;
    let mut content: Vec<Box<[u8]>> = encoded.iter().map(|row| row.as_ref().into()).collect();
    content.sort_unstable();
    Ok(content)
}

fn first_loop(plan: &LogicalPlan) -> Result<Option<MutualRecursion>, PgError> {
    let mut found = None;
    let walked = plan.apply(|node| {
        found = MutualRecursion::of(node).cloned();
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(from_datafusion)?;
    Ok(found)
}

fn replace_first_loop(plan: LogicalPlan, solved: &LogicalPlan) -> Result<LogicalPlan, PgError> {
    let replaced = plan.transform_down(|node| {
        Ok(match MutualRecursion::of(&node) {
            Some(_) => Transformed::new(solved.clone(), true, TreeNodeRecursion::Stop),
            None => Transformed::no(node),
        })
    });
    Ok(replaced.map_err(from_datafusion)?.data)
}

/// The plan with the rows of `bindings` in their scans.
fn bound(plan: LogicalPlan, bindings: &Bindings) -> Result<LogicalPlan, PgError> {
    let replaced = plan.transform_down(|node| match node {
        LogicalPlan::TableScan(mut scan) => match bindings.get(scan.table_name.table()) {
            Some(rows) => {
                let schema = scan.source.schema();
                let rows = batch(&schema, rows.columns().to_vec(), rows.num_rows());
                let rows = rows.map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
                scan.source = provider_as_source(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        },
        other => Ok(Transformed::no(other)),
    });
    Ok(replaced.map_err(from_datafusion)?.data)
}
