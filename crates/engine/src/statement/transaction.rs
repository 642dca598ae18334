//! BEGIN, COMMIT, ROLLBACK, savepoints, and the way every write goes: at once, or into the open block.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::row::OwnedRow;
use catalog::{Catalog, ReferentialAction};
use datafusion::logical_expr::LogicalPlan;
use repr::{ObjectId, PgError, RelationSchema, SqlState};
use sql::Purpose;
use sql::bind::BoundQuery;
use sql::parse::TransactionModes;
use sql::statement::Returning;
use storage::CatalogChange;
use tokio::sync::OwnedMutexGuard;

use crate::engine::Shared;
use crate::read::with_parameters_each;
use crate::read::{collect, response_batch, stream_of};
use crate::response::{Response, RowsTag};
use crate::rules::{Reference, Referring, Rules, check_keys};
use crate::session::{Prepared, Session};
use crate::statement::{blocking, command};
use crate::transaction::Transaction;
use crate::unique::{Keys, check_not_null};
use crate::write::{Change, Pending, apply};
use crate::{constant, ddl, deferred, rules, write};

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

/// The rows that a change replaces or takes away, for what refers to them.
pub(super) enum Replaced {
    /// None: it only adds rows.
    Nothing,
    Deleted(Vec<ArrayRef>),
    /// The rows as they were and, in the same order, as they are.
    Updated(Vec<ArrayRef>, Vec<ArrayRef>),
}

impl Replaced {
    /// The old rows and, where they are replaced, the new ones.
    fn rows(&self) -> Option<(&[ArrayRef], Option<&[ArrayRef]>)> {
        match self {
            Replaced::Nothing => None,
            Replaced::Deleted(old) => Some((old, None)),
            Replaced::Updated(old, new) => Some((old, Some(new))),
        }
    }
}

fn is_deferred(transaction: &Transaction, reference: &Reference) -> bool {
    let said = transaction.deferred.get(&reference.name).or_else(|| transaction.deferred.get(""));
    reference.key.deferrable && said.copied().unwrap_or(reference.key.initially_deferred)
}

/// Makes the open block fail to commit if one of the tables is written by somebody else before it does. There are no locks:
/// nobody waits.
pub(super) fn lock(session: &mut Session, relations: &[ObjectId]) {
    let shared = Arc::clone(&session.shared);
    if let Some(transaction) = session.transaction.as_mut().filter(|transaction| !transaction.implicit) {
        for relation in relations {
            transaction.locked.entry(*relation).or_insert_with(|| shared.table_version(*relation));
        }
    }
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

    /// The rules of a table.
    pub(super) fn rules(&self, table: ObjectId) -> Result<Arc<Rules>, PgError> {
        self.session.shared.rules.get(&self.session.catalog(), table)
    }

    /// Computes generated columns.
    pub(super) fn fill(&self, rules: &Rules, columns: &mut [ArrayRef], row_count: usize) -> Result<(), PgError> {
        if rules.expressions.generated.is_empty() {
            return Ok(());
        }
        let session = &self.session;
        rules.fill(&session.shared, &session.asker(), &session.catalog(), columns, row_count)
    }

    /// Checks and applies a change and what follows from it in tables that refer to the table, or adds all of it to the open
    /// block. On return it is as durable as the session wants.
    pub(super) async fn write(
        &mut self,
        rules: &Arc<Rules>,
        change: Change,
        replaced: Replaced,
    ) -> Result<(), PgError> {
        let changes = self.consequences(rules, change, replaced).await?;
        self.write_checked(changes).await
    }

    /// The change and what follows from it, checked. Errors: `23502`, `23514`, `23505`, `23503`.
    async fn consequences(
        &self,
        rules: &Arc<Rules>,
        change: Change,
        replaced: Replaced,
    ) -> Result<Vec<Change>, PgError> {
        let (shared, catalog) = (&self.session.shared, self.session.catalog());
        let before = self.pending();
        let mut waiting = VecDeque::from([(Arc::clone(rules), change, replaced)]);
        // What is to hold when all of it has happened.
        let (mut referring_after, mut written) = (Vec::new(), Vec::new());
        let mut own: Vec<Change> = Vec::new();
        while let Some((rules, change, replaced)) = waiting.pop_front() {
            check_not_null(&rules.table, &rules.schema, &change)?;
            if !rules.expressions.checks.is_empty() {
                rules.check_conditions(shared, &self.session.asker(), &catalog, &change)?;
            }
            check_keys(shared, &rules, Pending { before, own: &own }, &change).await?;
            own.push(change);
            written.push(Arc::clone(&rules));
            let Some((old, new)) = replaced.rows() else { continue };
            for (place, reference) in rules.referrers.iter().enumerate() {
                let pending = Pending { before, own: &own };
                let found = rules::referring(shared, &catalog, reference, old, pending).await?;
                let Some(first) = found.referred.first() else { continue };
                let action = rules::action(reference, new.is_some());
                match action {
                    ReferentialAction::Restrict => return Err(rules::still_referenced(reference, old, *first)?),
                    ReferentialAction::NoAction => {
                        if !self.is_deferred(reference) {
                            referring_after.push((Arc::clone(&rules), place, old.to_vec()));
                        }
                        continue;
                    }
                    _ => {}
                }
                let child = self.rules(reference.from.id)?;
                let followed = self.follow(&child, reference, action, found, new)?;
                waiting.push_back((child, followed.0, followed.1));
            }
        }
        let pending = Pending { before, own: &own };
        for (rules, place, old) in referring_after {
            let reference = &rules.referrers[place];
            let found = rules::referring(shared, &catalog, reference, &old, pending).await?;
            if let Some(row) = found.referred.first() {
                return Err(rules::still_referenced(reference, &old, *row)?);
            }
        }
        for (rules, change) in written.iter().zip(&own) {
            for reference in rules.references.iter().filter(|reference| !self.is_deferred(reference)) {
                rules::check_reference(shared, &catalog, reference, &change.added()?, pending).await?;
            }
        }
        Ok(own)
    }

    /// What a referential action does to the rows that refer.
    fn follow(
        &self,
        child: &Rules,
        reference: &Reference,
        action: ReferentialAction,
        found: Referring,
        new: Option<&[ArrayRef]>,
    ) -> Result<(Change, Replaced), PgError> {
        let table = reference.from.id;
        let row_count = found.referred.len();
        let Referring { rows, referred } = found;
        let key = &reference.key;
        let mut after = rows.clone();
        match (action, new) {
            (ReferentialAction::Cascade, None) => {
                return Ok((Change::constant(table, rows.clone(), row_count, -1), Replaced::Deleted(rows)));
            }
            (ReferentialAction::Cascade, Some(new)) => {
                let values = rules::take_rows(&rules::pick(new, &key.referenced_columns), &referred)?;
                for (column, value) in key.columns.iter().zip(values) {
                    let wanted = child.schema.columns[*column].sql_type.arrow();
                    after[*column] = match *value.data_type() == wanted {
                        true => value,
                        false => arrow::compute::cast(&value, &wanted)
                            .map_err(|error| PgError::internal(error.to_string()))?,
                    };
                }
            }
            (ReferentialAction::SetDefault, _) => {
                let (session, catalog) = (&self.session, self.session.catalog());
                let defaults =
                    rules::default_columns(&session.shared, &session.asker(), &catalog, &child.table, row_count)?;
                for column in &key.columns {
                    after[*column] = ArrayRef::clone(&defaults[*column]);
                }
            }
            _ => {
                for column in &key.columns {
                    let data_type = child.schema.columns[*column].sql_type.arrow();
                    after[*column] = arrow::array::new_null_array(&data_type, row_count);
                }
            }
        }
        self.fill(child, &mut after, row_count)?;
        let change = Change::replace(table, rows.clone(), after.clone(), row_count)?;
        Ok((change, Replaced::Updated(rows, after)))
    }

    /// Whether a reference is checked at COMMIT only.
    fn is_deferred(&self, reference: &Reference) -> bool {
        self.session.transaction.as_ref().is_some_and(|transaction| is_deferred(transaction, reference))
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
        let catalog = self.session.shared.catalog();
        apply(&self.session.shared, &catalog, changes, &CatalogChange::default(), || {})?;
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
        parameters: &[ArrayRef],
        (rows, row_count): (&[ArrayRef], usize),
        tag: RowsTag,
    ) -> Result<Response, PgError> {
        let expressions = with_parameters_each(&returning.expressions, parameters)?;
        let columns = constant::evaluate(self.session, &expressions, schema, rows, row_count)?;
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
    let level = session.settings.get("default_transaction_isolation");
    if let Some(level) = level.filter(|level| session.settings.get("transaction_isolation").as_ref() != Some(level)) {
        set_local(session, "transaction_isolation", &level)?;
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
    let done = match super::define::drop_at_commit(session).await {
        Ok(()) => deferred::commit_roles(session).await,
        Err(error) => Err(error),
    };
    let done = match done {
        Err(error) => Err(error),
        Ok(undo) => match try_commit(session).await {
            Ok(()) => Ok(()),
            Err(error) => {
                deferred::restore_roles(session, undo).await;
                Err(error)
            }
        },
    };
    match done {
        Ok(()) => {
            end(session, true);
            deferred::publish(session);
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
        None if transaction.changes.is_empty()
            && transaction.definitions.is_empty()
            && transaction.moves.is_empty() =>
        {
            return Ok(());
        }
        None => Arc::clone(&shared.writing).lock_owned().await,
    };
    let written = |versions: &HashMap<ObjectId, u64>| -> Vec<ObjectId> {
        let changed = versions.iter().filter(|(table, version)| shared.table_version(**table) != **version);
        changed.map(|(table, _)| *table).collect()
    };
    let serializable =
        session.settings.get("transaction_isolation").is_some_and(|level| level.ends_with("serializable"));
    let meanwhile = written(&transaction.versions);
    if !written(&transaction.locked).is_empty() || (serializable && !meanwhile.is_empty()) {
        return Err(concurrent_update());
    }
    let catalog = transaction.catalog.clone().unwrap_or_else(|| shared.catalog());
    let changes: Vec<Change> =
        transaction.changes.iter().filter(|change| catalog.get(change.table).is_some()).cloned().collect();
    for table in meanwhile {
        check_unchanged(&shared, &catalog, table, &changes).await?;
    }
    check_again(&shared, &catalog, &changes).await?;
    let definitions = std::mem::take(&mut transaction.definitions);
    let moves = std::mem::take(&mut transaction.moves);
    match definitions.is_empty() {
        true => ddl::commit(&shared, &[], changes)?,
        false => {
            let shared = Arc::clone(&shared);
            blocking(move || {
                let committed = ddl::commit(&shared, &definitions, changes);
                if committed.is_err() {
                    ddl::roll_back(&shared, &definitions);
                }
                committed
            })
            .await?;
        }
    }
    for (oid, position) in moves {
        shared.sequences.set(&shared.storage, oid, position)?;
    }
    drop(lock);
    if session.settings.synchronous_commit() {
        shared.sync_appended().await?;
    }
    Ok(())
}

fn concurrent_update() -> PgError {
    PgError::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent update")
        .with_hint("The transaction might succeed if retried.")
}

/// Errors: `40001` if a row that `changes` take out of a table is no longer there.
async fn check_unchanged(
    shared: &Shared,
    catalog: &Arc<Catalog>,
    table: ObjectId,
    changes: &[Change],
) -> Result<(), PgError> {
    let own: Vec<&Change> = changes.iter().filter(|change| change.table == table).collect();
    let Some(first) = own.first() else { return Ok(()) };
    let rules = shared.rules.get(catalog, table)?;
    let types: Vec<_> = rules.schema.columns.iter().map(|column| column.sql_type.clone()).collect();
    let keys = Keys::new(&types)?;
    let mut net: HashMap<OwnedRow, i64> = HashMap::new();
    for change in &own {
        for (row, key) in keys.of(&change.columns)?.into_iter().enumerate() {
            *net.entry(key).or_default() += change.diffs.get(row);
        }
    }
    net.retain(|_, count| *count < 0);
    if net.is_empty() {
        return Ok(());
    }
    let nothing = Pending::default();
    let (there, _) = match &rules.schema.primary_key {
        Some(key) => {
            let mut sought = rules::pick(&first.columns, key);
            for change in &own[1..] {
                for (column, more) in sought.iter_mut().zip(rules::pick(&change.columns, key)) {
                    *column = arrow::compute::concat(&[column.as_ref(), more.as_ref()])
                        .map_err(|error| PgError::internal(error.to_string()))?;
                }
            }
            rules::rows_with(shared, catalog, &rules.table, key, sought, nothing).await?
        }
        None => write::rows_after(shared, table, &rules.schema, nothing).await?,
    };
    for key in keys.of(&there)? {
        if let Some(count) = net.get_mut(&key) {
            *count += 1;
        }
    }
    match net.values().any(|count| *count < 0) {
        true => Err(concurrent_update()),
        false => Ok(()),
    }
}

/// What the block wrote was checked as it was written; since then others may have taken its keys, or what it refers to. And
/// some checks were put off until now.
async fn check_again(shared: &Shared, catalog: &Arc<Catalog>, changes: &[Change]) -> Result<(), PgError> {
    for (index, change) in changes.iter().enumerate() {
        let rules = shared.rules.get(catalog, change.table)?;
        check_keys(shared, &rules, Pending::all(&changes[..index]), change).await?;
    }
    check_references(shared, catalog, changes).await
}

/// Errors: `23503` if the tables' rows after `changes` refer to nothing.
async fn check_references(shared: &Shared, catalog: &Arc<Catalog>, changes: &[Change]) -> Result<(), PgError> {
    let pending = Pending::all(changes);
    for change in changes {
        let rules = shared.rules.get(catalog, change.table)?;
        if rules.references.is_empty() && rules.referrers.is_empty() {
            continue;
        }
        // A row that a later statement of the block took away again refers to nothing and need not.
        let added = change.added()?;
        let added = write::still_there(shared, &rules.schema, change.table, added, pending).await?;
        for reference in &rules.references {
            rules::check_reference(shared, catalog, reference, &added, pending).await?;
        }
        let removed = change.removed()?;
        for reference in &rules.referrers {
            let found = rules::referring(shared, catalog, reference, &removed, pending).await?;
            if let Some(row) = found.referred.first() {
                return Err(rules::still_referenced(reference, &removed, *row)?);
            }
        }
    }
    Ok(())
}

/// SET CONSTRAINTS: IMMEDIATE checks what was put off. Errors: `23503`.
pub(super) async fn set_constraints(
    session: &mut Session,
    names: Option<&[String]>,
    deferred: bool,
) -> Result<Response, PgError> {
    let (shared, catalog) = (Arc::clone(&session.shared), session.catalog());
    let Some(transaction) = session.transaction.as_mut() else {
        session.warning(SqlState("25P01"), "SET CONSTRAINTS can only be used in transaction blocks");
        return Ok(command("SET CONSTRAINTS"));
    };
    match names {
        None => transaction.deferred = HashMap::from([(String::new(), deferred)]),
        Some(names) => transaction.deferred.extend(names.iter().map(|name| (name.clone(), deferred))),
    }
    if !deferred {
        let there = |change: &&Change| catalog.get(change.table).is_some();
        let changes: Vec<Change> = transaction.changes.iter().filter(there).cloned().collect();
        check_references(&shared, &catalog, &changes).await?;
    }
    Ok(command("SET CONSTRAINTS"))
}

/// Ends the block and all it did.
pub(crate) async fn roll_back(session: &mut Session) -> Result<(), PgError> {
    deferred::clear(session);
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
        ddl::roll_back(&shared, &definitions);
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
    deferred::savepoint(session, name);
    Ok(command("SAVEPOINT"))
}

pub(super) fn release_savepoint(session: &mut Session, name: &str) -> Result<Response, PgError> {
    block(session, "RELEASE SAVEPOINT")?.release(name)?;
    deferred::release(session, name);
    Ok(command("RELEASE"))
}

pub(super) async fn roll_back_to_savepoint(session: &mut Session, name: &str) -> Result<Response, PgError> {
    let (undone, settings) = block(session, "ROLLBACK TO SAVEPOINT")?.roll_back_to(name)?;
    session.settings = settings;
    deferred::roll_back_to(session, name);
    let shared = Arc::clone(&session.shared);
    blocking(move || {
        ddl::roll_back(&shared, &undone);
        Ok(())
    })
    .await?;
    Ok(command("ROLLBACK"))
}
