//! Queries over VALUES against PostgreSQL 15's answers: `queries.txt` has one a line, a tab, and the rows psql printed, joined
//! by `;`. They run as one-shot SELECTs do: bound, optimized, executed by DataFusion.

#[path = "support/answers.rs"]
mod answers;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use catalog::Catalog;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use repr::{PgError, RelationSchema};
use sql::Purpose;
use sql::bind::{BindContext, bind_query};

fn error_of(error: DataFusionError) -> PgError {
    match error {
        DataFusionError::External(error) => match error.downcast::<PgError>() {
            Ok(error) => *error,
            Err(error) => PgError::internal(error.to_string()),
        },
        DataFusionError::Context(_, inner) => error_of(*inner),
        DataFusionError::ArrowError(inner, _) => match *inner {
            arrow::error::ArrowError::ExternalError(error) => match error.downcast::<DataFusionError>() {
                Ok(error) => error_of(*error),
                Err(error) => PgError::internal(error.to_string()),
            },
            other => PgError::internal(other.to_string()),
        },
        other => PgError::internal(other.to_string()),
    }
}

/// Nothing here waits for anything outside, so polling is enough.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn run(text: &str) -> Result<(RelationSchema, Vec<RecordBatch>), PgError> {
    let catalog = Catalog::default();
    let bound = bind_query(&sql::parse_query(text)?, &BindContext::new(&catalog))?;
    let plan = sql::optimize(bound.plan, Purpose::Read)?;
    let config = SessionConfig::new().with_target_partitions(1);
    let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    let context = SessionContext::new_with_state(state.clone());
    let physical = wait(state.query_planner().create_physical_plan(&plan, &state)).map_err(error_of)?;
    let batches = wait(collect(Arc::clone(&physical), context.task_ctx())).map_err(error_of)?;
    Ok((bound.schema, batches))
}

fn shown(text: &str) -> String {
    let (schema, batches) = match run(text) {
        Ok(result) => result,
        Err(error) => return format!("ERROR:  {}", error.message),
    };
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let mut cells = Vec::new();
            for (column, described) in batch.columns().iter().zip(&schema.columns) {
                if *column.data_type() != described.sql_type.arrow() {
                    return format!("{} where {} was promised", column.data_type(), described.sql_type.name());
                }
                let mut cell = String::new();
                match column.is_null(row) {
                    true => cell.push_str("NULL"),
                    false => repr::text::format_value(column, row, &described.sql_type, &mut cell),
                }
                cells.push(cell);
            }
            rows.push(cells.join("|"));
        }
    }
    rows.join(";")
}

#[test]
fn answers_are_postgres_answers() {
    answers::compare(include_str!("queries.txt"), &[], |text, _| vec![("", shown(text))]);
}
