//! Running statements: one file a kind, dispatched here.

pub(crate) mod copy;
mod cursor;
mod define;
mod delete;
mod explain;
mod insert;
mod notify;
mod prepare;
mod role;
mod select;
mod set;
mod show;
mod subscribe;
pub(crate) mod transaction;
mod truncate;
mod update;

use std::sync::Arc;

use arrow::array::ArrayRef;
use repr::{ColumnSchema, PgError, RelationSchema, SqlState, SqlType};
use sql::BoundStatement;
use sql::statement::CopyOutSource;

use crate::response::Response;
use crate::session::{Prepared, Session};

/// Runs a statement that was bound against the catalog as it is.
pub(crate) async fn run(
    session: &mut Session,
    prepared: &Prepared,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    let text = prepared.statement().text.as_str();
    let bound = prepared.bound();
    match bound {
        BoundStatement::Query(query) => select::run(session, prepared, query, parameters).await,
        BoundStatement::Insert { table, rows, on_conflict, returning } => {
            insert::run(session, prepared, *table, rows, on_conflict, returning.as_ref(), parameters).await
        }
        BoundStatement::Update { table, rows, returning } => {
            update::run(session, prepared, *table, rows, returning.as_ref(), parameters).await
        }
        BoundStatement::Delete { table, rows, returning } => {
            delete::run(session, prepared, *table, rows, returning.as_ref(), parameters).await
        }
        BoundStatement::Define { tag, steps } => define::run(session, tag, steps).await,
        BoundStatement::Maintenance { tag, locked } => {
            transaction::lock(session, locked);
            Ok(command(*tag))
        }
        BoundStatement::CreateTableAs { .. } => define::create_table_as(session, prepared).await,
        BoundStatement::CreateSource { .. }
        | BoundStatement::CreateSources(_)
        | BoundStatement::CreateConnection { .. }
        | BoundStatement::CreateView { .. } => define::create(session, bound, text).await,
        BoundStatement::Drop { kind, objects, missing, cascade } => {
            define::drop_objects(session, *kind, objects, missing, *cascade).await
        }
        BoundStatement::Truncate { tables, restart_identity } => {
            truncate::run(session, prepared, tables, *restart_identity).await
        }
        BoundStatement::ShowObjects(kind) => show::objects(session, prepared.catalog(), *kind),
        BoundStatement::ShowColumns(relation) => show::columns(prepared.catalog(), *relation),
        BoundStatement::ShowCreate(object) => show::create(prepared.catalog(), *object),
        BoundStatement::ShowSetting(name) => show::setting(session, name.as_deref()),
        BoundStatement::Set { name, value, local } => set::run(session, name, value.as_deref(), *local),
        BoundStatement::Reset(name) => set::reset(session, name.as_deref()),
        BoundStatement::SetTransaction(modes) => transaction::set_modes(session, modes),
        BoundStatement::SetConstraints { names, deferred } => {
            transaction::set_constraints(session, names.as_deref(), *deferred).await
        }
        BoundStatement::Explain(explained) => explain::run(session, prepared.catalog(), explained).await,
        BoundStatement::Subscribe { .. } => subscribe::run(session, prepared.catalog(), bound).await,
        BoundStatement::CopyOut { source, options } => {
            copy::copy_out(session, prepared, source, options, parameters).await
        }
        BoundStatement::CopyIn { table, columns, options } => {
            copy::begin_copy_in(prepared.catalog(), *table, columns, options)
        }
        BoundStatement::Begin(modes) => transaction::begin(session, modes),
        BoundStatement::Commit => transaction::commit(session).await,
        BoundStatement::Rollback => transaction::rollback_statement(session).await,
        BoundStatement::Savepoint(name) => transaction::savepoint(session, name),
        BoundStatement::ReleaseSavepoint(name) => transaction::release_savepoint(session, name),
        BoundStatement::RollbackToSavepoint(name) => transaction::roll_back_to_savepoint(session, name).await,
        BoundStatement::Declare { name, binary, hold, scroll, statement } => {
            let kept = cursor::Kept { hold: *hold, scroll: *scroll };
            cursor::declare(session, prepared.catalog(), name, *binary, kept, statement, parameters).await
        }
        BoundStatement::Fetch { name, direction, only_move: false, timeout } => {
            cursor::fetch(session, name, *direction, *timeout).await
        }
        BoundStatement::Fetch { name, direction, only_move: true, timeout } => {
            cursor::advance(session, name, *direction, *timeout).await
        }
        BoundStatement::Close(name) => cursor::close(session, name.as_deref()),
        BoundStatement::Prepare { name, parameter_types, statement } => {
            prepare::prepare(session, name, parameter_types, statement)
        }
        BoundStatement::Execute { name, parameters } => Box::pin(prepare::execute(session, name, parameters)).await,
        BoundStatement::Deallocate(name) => prepare::deallocate(session, name.as_deref()),
        BoundStatement::Discard(target) => set::discard(session, *target),
        BoundStatement::Checkpoint => {
            session.shared.sync_appended().await?;
            Ok(command("CHECKPOINT"))
        }
        BoundStatement::Notify(statement) => notify::run(session, statement),
        BoundStatement::Role(statement) => role::run(session, statement).await,
    }
}

/// The columns of the rows that a statement gives; None if it gives none.
pub(crate) fn columns(session: &Session, statement: &BoundStatement) -> Result<Option<RelationSchema>, PgError> {
    Ok(match statement {
        BoundStatement::Query(query) => Some(query.schema.clone()),
        BoundStatement::Insert { returning, .. }
        | BoundStatement::Update { returning, .. }
        | BoundStatement::Delete { returning, .. } => returning.as_ref().map(|returning| returning.schema.clone()),
        BoundStatement::ShowObjects(kind) => Some(show::objects_schema(*kind)),
        BoundStatement::ShowColumns(_) => Some(show::columns_schema()),
        BoundStatement::ShowCreate(_) => Some(show::create_schema()),
        BoundStatement::ShowSetting(name) => Some(show::setting_schema(name.as_deref())),
        BoundStatement::Explain(_) => Some(explain::schema()),
        BoundStatement::Subscribe { query, progress, .. } => Some(subscribe::schema(&query.schema, *progress)),
        BoundStatement::CopyOut { source, .. } => match source {
            CopyOutSource::Query(query) => Some(query.schema.clone()),
            CopyOutSource::Subscribe(subscribe) => columns(session, subscribe)?,
        },
        BoundStatement::Fetch { name, only_move: false, .. } => {
            Some(session.cursors.get(name).ok_or_else(|| cursor::undefined(name))?.schema.clone())
        }
        BoundStatement::Execute { name, .. } => {
            session.statements.get(name).ok_or_else(|| prepare::undefined(name))?.columns().cloned()
        }
        _ => None,
    })
}

/// Whether a change of the catalog can make another statement of it.
pub(crate) fn depends_on_catalog(statement: &BoundStatement) -> bool {
    !matches!(
        statement,
        BoundStatement::ShowSetting(_)
            | BoundStatement::Set { .. }
            | BoundStatement::Reset(_)
            | BoundStatement::SetTransaction(_)
            | BoundStatement::SetConstraints { .. }
            | BoundStatement::Begin(_)
            | BoundStatement::Commit
            | BoundStatement::Rollback
            | BoundStatement::Savepoint(_)
            | BoundStatement::ReleaseSavepoint(_)
            | BoundStatement::RollbackToSavepoint(_)
            | BoundStatement::Fetch { .. }
            | BoundStatement::Close(_)
            | BoundStatement::Prepare { .. }
            | BoundStatement::Deallocate(_)
            | BoundStatement::Discard(_)
            | BoundStatement::Checkpoint
            | BoundStatement::Notify(_)
    )
}

fn command(tag: impl Into<String>) -> Response {
    Response::Command { tag: tag.into() }
}

/// A schema of text columns.
fn text_columns(names: &[&str]) -> RelationSchema {
    RelationSchema::new(names.iter().map(|name| ColumnSchema::new(*name, SqlType::Text)).collect())
}

/// Rows of text columns.
fn text_rows(
    schema: &RelationSchema,
    rows: &[Vec<Option<String>>],
) -> Result<arrow::record_batch::RecordBatch, PgError> {
    let column = |index: usize| -> ArrayRef {
        Arc::new(arrow::array::StringArray::from_iter(rows.iter().map(|row| row[index].as_deref())))
    };
    let columns = (0..schema.columns.len()).map(column).collect();
    crate::read::response_batch(schema, columns, rows.len())
}

/// Runs blocking work, such as a definition, where it holds up no other session.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PgError> + Send + 'static,
) -> Result<T, PgError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PgError::internal(format!("a statement's work ended early: {error}")))?
}

/// Errors: `25006` where the transaction, or all of them, may not write.
fn check_writable(session: &Session, command: &str) -> Result<(), PgError> {
    if session.settings.is_on("transaction_read_only")
        || (session.transaction.as_ref().is_none_or(|transaction| transaction.implicit)
            && session.settings.is_on("default_transaction_read_only"))
    {
        return Err(PgError::new(
            SqlState::READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {command} in a read-only transaction"),
        ));
    }
    Ok(())
}
