//! SUBSCRIBE: the updates of a relation or query, from now on.
//!
//! Columns `mz_timestamp`, with PROGRESS `mz_progressed`, and `mz_diff` come before the query's, under the names that
//! Materialize's clients know. A query that nothing maintains yet gets a dataflow for as long as it is followed.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, new_null_array};
use arrow::record_batch::RecordBatch;
use catalog::Catalog;
use dataflow::SubscribeEvent;
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlType, Timestamp, UpdateBatch, ViewOptions};
use sql::BoundStatement;
use tokio::sync::mpsc;

use crate::constant::moment;
use crate::dataflows::{install, uninstall};
use crate::ddl::view_plans;
use crate::engine::Shared;
use crate::read::response_batch;
use crate::response::{Response, RowsTag};
use crate::session::Session;
use crate::statement::blocking;

/// The columns of a SUBSCRIBE of a query with these columns.
pub(super) fn schema(query: &RelationSchema, progress: bool) -> RelationSchema {
    let mut columns = vec![ColumnSchema::new("mz_timestamp", SqlType::Int8).not_null()];
    if progress {
        columns.push(ColumnSchema::new("mz_progressed", SqlType::Bool).not_null());
    }
    columns.push(ColumnSchema::new("mz_diff", SqlType::Int8));
    columns.extend(query.columns.iter().cloned().map(|column| ColumnSchema { nullable: true, ..column }));
    RelationSchema::new(columns)
}

/// A dataflow that ends with its subscription.
struct Temporary {
    shared: Arc<Shared>,
    id: ObjectId,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let (shared, id) = (Arc::clone(&self.shared), self.id);
        // Ending a dataflow may join a reader's thread, and a drop may happen on any.
        std::thread::spawn(move || {
            let _definitions = shared.definitions.lock();
            uninstall(&shared, &[id]);
        });
    }
}

struct Following {
    events: mpsc::Receiver<SubscribeEvent>,
    schema: RelationSchema,
    progress: bool,
    /// Nothing of this time or later is told.
    up_to: Timestamp,
    _temporary: Option<Temporary>,
}

pub(super) async fn run(
    session: &mut Session,
    catalog: &Arc<Catalog>,
    statement: &BoundStatement,
) -> Result<Response, PgError> {
    let BoundStatement::Subscribe { query, relation, snapshot, progress, up_to } = statement else {
        return Err(PgError::internal("not a SUBSCRIBE"));
    };
    let as_of = query.as_of.as_ref().map(|at| moment(session, at)).transpose()?;
    let up_to = up_to.as_ref().map(|at| moment(session, at)).transpose()?;
    let running = relation.filter(|id| session.shared.dataflows.read().get(*id).is_some());
    let (dataflow, temporary) = match running {
        Some(id) => (id, None),
        None => {
            let (shared, catalog, query) = (Arc::clone(&session.shared), Arc::clone(catalog), query.clone());
            let temporary = blocking(move || {
                let _definitions = shared.definitions.lock();
                let id = shared.allocate_id();
                let plans = view_plans(&shared, &catalog, id, "subscribe", &query, ViewOptions::default())?;
                install(&shared, &catalog, id, plans)?;
                Ok(Temporary { shared: Arc::clone(&shared), id })
            })
            .await?;
            (temporary.id, Some(temporary))
        }
    };
    if session.settings.synchronous_commit() {
        session.shared.sync_appended().await?;
    }
    let schema = schema(&query.schema, *progress);
    if let Some(up_to) = up_to {
        session.shared.runtime.close_by(up_to);
    }
    let following = Following {
        events: session.shared.runtime.subscribe_at(dataflow, *snapshot, as_of),
        up_to: up_to.unwrap_or(Timestamp::MAX),
        schema: schema.clone(),
        progress: *progress,
        _temporary: temporary,
    };
    let rows = futures::stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        loop {
            match following.events.recv().await? {
                SubscribeEvent::Updates(updates) if updates.row_count() == 0 => {}
                SubscribeEvent::Updates(updates) if updates.times.get(0) >= following.up_to => return None,
                SubscribeEvent::Updates(updates) => {
                    let batch = following.updates(updates);
                    return Some(keep(batch, following));
                }
                SubscribeEvent::Progress(time) if following.progress => {
                    let ends = time >= following.up_to;
                    let batch = following.progressed(time.min(following.up_to));
                    let (batch, following) = keep(batch, following);
                    return Some((batch, following.filter(|_| !ends)));
                }
                SubscribeEvent::Progress(time) if time >= following.up_to => return None,
                SubscribeEvent::Progress(_) => {}
                SubscribeEvent::Failed(error) => return Some((Err(error), None)),
            }
        }
    });
    Ok(Response::Rows { schema, rows: Box::pin(rows), tag: RowsTag::Subscribe })
}

type Step = (Result<RecordBatch, PgError>, Option<Following>);

/// A subscription goes on until its first error.
fn keep(batch: Result<RecordBatch, PgError>, following: Following) -> Step {
    let following = batch.is_ok().then_some(following);
    (batch, following)
}

impl Following {
    fn updates(&self, updates: UpdateBatch) -> Result<RecordBatch, PgError> {
        let row_count = updates.row_count();
        let times = Int64Array::from_iter_values(updates.times.iter().map(milliseconds));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(times)];
        if self.progress {
            columns.push(Arc::new(BooleanArray::from(vec![false; row_count])));
        }
        columns.push(Arc::new(Int64Array::from_iter_values(updates.diffs.iter())));
        columns.extend(updates.columns);
        response_batch(&self.schema, columns, row_count)
    }

    fn progressed(&self, time: Timestamp) -> Result<RecordBatch, PgError> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![milliseconds(time)])), Arc::new(BooleanArray::from(vec![true]))];
        columns.extend(self.schema.columns[2..].iter().map(|column| new_null_array(&column.sql_type.arrow(), 1)));
        response_batch(&self.schema, columns, 1)
    }
}

/// The last timestamp of all does not fit a bigint and stands for the end of time.
fn milliseconds(time: Timestamp) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
