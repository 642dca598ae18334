//! BEGIN, COMMIT, ROLLBACK, savepoints, and the way every write goes: at once, or into the open block.

use std::sync::Arc;

use arrow::array::ArrayRef;
use catalog::Object;
use dataflow::PeekTarget;
use datafusion::logical_expr::LogicalPlan;
use repr::{ObjectId, PgError, RelationSchema, SqlState};
use sql::Purpose;
use sql::bind::BoundQuery;
use sql::parse::TransactionModes;
use sql::statement::Returning;
use tokio::sync::OwnedMutexGuard;

use crate::ddl;
use crate::read::{batch, collect, response_batch, stream_of};
use crate::response::{Response, RowsTag};
use crate::session::{Prepared, Session};
use crate::statement::{blocking, command};
use crate::transaction::Transaction;
use crate::unique::is_exact;
use crate::write::{Change, apply, check, overlay};
use crate::{constant, write};

/// A write under way. Outside of an explicit block it holds the write lock, so what it reads stays true.
pub(super) struct Writing<'a> {
    pub(super) session: &'a mut Session,
    lock: Option<OwnedMutexGuard<()>>,
    /// What it took in while the lock was not yet held, to be seen again under it.
    explicit: bool,
}

/// Begins a write that depends on `relations` if it `reads`.
pub(super) async fn begin_write<'a>(
    session: &'a mut Session,
    relations: &[ObjectId],
    reads: bool,
) -> Result<Writing<'a>, PgError> {
    let explicit = session.transaction.as_ref().is_some_and(|transaction| !transaction.implicit);
    if explicit {
        let shared = Arc::clone(&session.shared);
        if let Some(transaction) = session.transaction.as_mut().filter(|_| reads) {
            for relation in relations {
                transaction.versions.entry(*relation).or_insert_with(|| shared.table_version(*relation));
            }
        }
        return Ok(Writing { session, lock: None, explicit });
    }
    let held = session.transaction.as_ref().is_some_and(|transaction| transaction.writing.is_some());
    let lock = match held {
        true => None,
        false => Some(Arc::clone(&session.shared.writing).lock_owned().await),
    };
    Ok(Writing { session, lock, explicit })
}

impl Writing<'_> {
    /// What the open block has written already.
    pub(super) fn pending(&self) -> &[Change] {
        self.session.transaction.as_ref().map_or(&[], |transaction| &transaction.changes)
    }

    /// The rows of the statement's query.
    pub(super) async fn rows(
        &mut self,
        prepared: &Prepared,
        query: &BoundQuery,
        parameters: &[ArrayRef],
    ) -> Result<(Vec<ArrayRef>, usize), PgError> {
        let plan = prepared.optimized(&query.plan)?;
        self.run(prepared, query, plan, parameters).await
    }

    /// The rows of one of several queries of the statement. It is planned each time.
    pub(super) async fn rows_of_one(
        &mut self,
        prepared: &Prepared,
        query: &BoundQuery,
    ) -> Result<(Vec<ArrayRef>, usize), PgError> {
        let plan = sql::optimize(query.plan.clone(), Purpose::Read)?;
        self.run(prepared, query, plan, &[]).await
    }

    async fn run(
        &mut self,
        prepared: &Prepared,
        query: &BoundQuery,
        plan: LogicalPlan,
        parameters: &[ArrayRef],
    ) -> Result<(Vec<ArrayRef>, usize), PgError> {
        let mut reading = self.session.reading(prepared.catalog());
        // Whatever is read becomes durable with what is written, for the log is in order.
        reading.unsynced = true;
        let rows = reading.run(plan, parameters).await?;
        let notices = reading.notices;
        let collected = collect(rows, &query.schema.arrow()).await?;
        self.session.notices.extend(notices);
        Ok(collected)
    }

    /// The table's rows that have one of the keys of `columns`.
    pub(super) async fn existing(
        &self,
        prepared: &Prepared,
        table: ObjectId,
        schema: &RelationSchema,
        key: &[usize],
        columns: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, PgError> {
        let exact = key.iter().all(|index| is_exact(&schema.columns[*index].sql_type));
        let keys = exact.then(|| key.iter().map(|index| ArrayRef::clone(&columns[*index])).collect());
        let arrow_schema = schema.arrow();
        let mut batches = Vec::new();
        for answer in self.session.shared.runtime.peek(vec![PeekTarget { dataflow: table, keys }]).answers {
            let answer = answer.await.map_err(|_| PgError::internal("a peek was not answered"))??;
            for rows in answer.batches {
                batches.push(batch(&arrow_schema, rows.columns().to_vec(), rows.num_rows())?);
            }
        }
        let pending: Vec<Change> = self.pending().iter().filter(|change| change.table == table).cloned().collect();
        if !pending.is_empty() {
            let (_, schema) = write::table(prepared.catalog(), table)?;
            batches = overlay(&schema, &arrow_schema, batches, &pending)?;
        }
        Ok(crate::read::concat(batches, &arrow_schema)?.0)
    }

    /// Checks and applies a change, or adds it to the open block. On return it is as durable as the session wants.
    pub(super) async fn write(
        &mut self,
        object: &Object,
        schema: &RelationSchema,
        change: Change,
    ) -> Result<(), PgError> {
        check(&self.session.shared, object, schema, self.pending(), &change).await?;
        self.write_checked(vec![change]).await
    }

    /// Applies changes that break no rule, at one time, or adds them to the open block. On return they are as durable as the
    /// session wants.
    pub(super) async fn write_checked(&mut self, changes: Vec<Change>) -> Result<(), PgError> {
        if let Some(transaction) = self.session.transaction.as_mut() {
            transaction.changes.extend(changes);
            if !self.explicit && transaction.writing.is_none() {
                transaction.writing = self.lock.take();
            }
            return Ok(());
        }
        apply(&self.session.shared, changes)?;
        self.lock = None;
        if self.session.settings.synchronous_commit() {
            self.session.shared.sync_appended().await?;
        }
        Ok(())
    }

    /// The answer of RETURNING over rows of the table.
    pub(super) fn returning(
        &self,
        schema: &RelationSchema,
        returning: &Returning,
        rows: &[ArrayRef],
        row_count: usize,
        tag: RowsTag,
    ) -> Result<Response, PgError> {
        let columns = constant::evaluate(self.session, &returning.expressions, schema, rows, row_count)?;
        let batch = response_batch(&returning.schema, columns, row_count)?;
        Ok(Response::Rows { schema: returning.schema.clone(), rows: stream_of(vec![batch]), tag })
    }
}

pub(super) fn begin(session: &mut Session, modes: &TransactionModes) -> Result<Response, PgError> {
    match session.transaction.as_mut() {
        Some(transaction) if transaction.implicit => transaction.implicit = false,
        Some(_) => {
            session.warning(SqlState::ACTIVE_SQL_TRANSACTION, "there is already a transaction in progress");
        }
        None => session.transaction = Some(Transaction::new(false, session.settings.clone())),
    }
    if session.settings.is_on("default_transaction_read_only") {
        set_local(session, "transaction_read_only", "on")?;
    }
    set_modes_of_block(session, modes)?;
    Ok(command("BEGIN"))
}

/// SET TRANSACTION.
pub(super) fn set_modes(session: &mut Session, modes: &TransactionModes) -> Result<Response, PgError> {
    if session.transaction.is_none() {
        session.warning(SqlState("25P01"), "SET TRANSACTION can only be used in transaction blocks");
        return Ok(command("SET"));
    }
    set_modes_of_block(session, modes)?;
    Ok(command("SET"))
}

fn set_modes_of_block(session: &mut Session, modes: &TransactionModes) -> Result<(), PgError> {
    if let Some(isolation) = &modes.isolation {
        set_local(session, "transaction_isolation", isolation)?;
    }
    if let Some(read_only) = modes.read_only {
        set_local(session, "transaction_read_only", if read_only { "on" } else { "off" })?;
    }
    Ok(())
}

/// Sets until the end of the transaction.
pub(super) fn set_local(session: &mut Session, name: &str, value: &str) -> Result<(), PgError> {
    let before = session.settings.get(name);
    session.settings.set(name, Some(value))?;
    if let Some(transaction) = session.transaction.as_mut() {
        transaction.local.push((name.to_string(), before));
    }
    Ok(())
}

/// COMMIT: checks and applies what the block has written. A failed block is rolled back, and says so.
///
/// Errors: `40001` if a table that the block read in order to write it was written since; `23505` if a key was taken since.
pub(crate) async fn commit(session: &mut Session) -> Result<Response, PgError> {
    let Some(transaction) = session.transaction.as_ref() else {
        session.warning(SqlState("25P01"), "there is no transaction in progress");
        return Ok(command("COMMIT"));
    };
    if transaction.failed {
        roll_back(session).await?;
        return Ok(command("ROLLBACK"));
    }
    match try_commit(session).await {
        Ok(()) => {
            end(session, true);
            Ok(command("COMMIT"))
        }
        Err(error) => {
            roll_back(session).await?;
            Err(error)
        }
    }
}

async fn try_commit(session: &mut Session) -> Result<(), PgError> {
    let shared = Arc::clone(&session.shared);
    let Some(transaction) = session.transaction.as_mut() else { return Ok(()) };
    let lock = match transaction.writing.take() {
        Some(lock) => lock,
        None if transaction.changes.is_empty() && transaction.definitions.is_empty() => return Ok(()),
        None => Arc::clone(&shared.writing).lock_owned().await,
    };
    for (table, version) in &transaction.versions {
        if shared.table_version(*table) != *version {
            return Err(PgError::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .with_hint("The transaction might succeed if retried."));
        }
    }
    // What the block wrote was checked as it was written; since then others may have taken its keys.
    let catalog = shared.catalog();
    let changes = transaction.changes.clone();
    for (index, change) in changes.iter().enumerate() {
        let (object, schema) = write::table(&catalog, change.table)?;
        check(&shared, &object, &schema, &changes[..index], change).await?;
    }
    commit_definitions(session).await?;
    apply(&shared, changes)?;
    drop(lock);
    if session.settings.synchronous_commit() {
        shared.sync_appended().await?;
    }
    Ok(())
}

async fn commit_definitions(session: &mut Session) -> Result<(), PgError> {
    let Some(transaction) = session.transaction.as_mut().filter(|transaction| !transaction.definitions.is_empty())
    else {
        return Ok(());
    };
    let definitions = std::mem::take(&mut transaction.definitions);
    let shared = Arc::clone(&session.shared);
    blocking(move || ddl::commit(&shared, &definitions)).await
}

/// Ends the block and all it did.
pub(crate) async fn roll_back(session: &mut Session) -> Result<(), PgError> {
    let Some(transaction) = session.transaction.as_mut() else { return Ok(()) };
    transaction.changes.clear();
    transaction.writing = None;
    let definitions = std::mem::take(&mut transaction.definitions);
    session.settings = transaction.settings.clone();
    end(session, false);
    if definitions.is_empty() {
        return Ok(());
    }
    let shared = Arc::clone(&session.shared);
    blocking(move || {
        ddl::roll_back(&shared, &definitions.into_iter().rev().collect::<Vec<_>>());
        Ok(())
    })
    .await
}

fn end(session: &mut Session, committed: bool) {
    let Some(transaction) = session.transaction.take() else { return };
    for (name, value) in transaction.local.into_iter().rev() {
        if let Err(error) = session.settings.set(&name, value.as_deref()) {
            tracing::error!("a setting cannot go back to what it was: {error}");
        }
    }
    session.cursors.retain(|_, cursor| cursor.hold && committed);
}

pub(super) async fn rollback_statement(session: &mut Session) -> Result<Response, PgError> {
    if session.transaction.is_none() {
        session.warning(SqlState("25P01"), "there is no transaction in progress");
    }
    roll_back(session).await?;
    Ok(command("ROLLBACK"))
}

fn block<'a>(session: &'a mut Session, statement: &str) -> Result<&'a mut Transaction, PgError> {
    session
        .transaction
        .as_mut()
        .filter(|transaction| !transaction.implicit)
        .ok_or_else(|| PgError::new(SqlState("25P01"), format!("{statement} can only be used in transaction blocks")))
}

pub(super) fn savepoint(session: &mut Session, name: &str) -> Result<Response, PgError> {
    let settings = session.settings.clone();
    block(session, "SAVEPOINT")?.savepoint(name.to_string(), &settings);
    Ok(command("SAVEPOINT"))
}

pub(super) fn release_savepoint(session: &mut Session, name: &str) -> Result<Response, PgError> {
    block(session, "RELEASE SAVEPOINT")?.release(name)?;
    Ok(command("RELEASE"))
}

pub(super) async fn roll_back_to_savepoint(session: &mut Session, name: &str) -> Result<Response, PgError> {
    let (undone, settings) = block(session, "ROLLBACK TO SAVEPOINT")?.roll_back_to(name)?;
    session.settings = settings;
    let shared = Arc::clone(&session.shared);
    blocking(move || {
        ddl::roll_back(&shared, &undone);
        Ok(())
    })
    .await?;
    Ok(command("ROLLBACK"))
}
