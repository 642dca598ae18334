//! CREATE, ALTER, COMMENT and DROP: a transaction's definitions, or a transaction of one.

use std::sync::Arc;

use catalog::Object;
use repr::{ObjectId, PgError, SqlState};
use sql::parse::Kind;
use sql::statement::Step;
use sql::{BoundStatement, Purpose};

use crate::ddl::{self, Defined, Draft, describe, object_of};
use crate::read::collect;
use crate::response::Response;
use crate::session::{Prepared, Session};
use crate::statement::{blocking, check_writable, command};
use crate::write::Change;

/// Steps that make, change or drop objects.
pub(super) async fn run(session: &mut Session, tag: &'static str, steps: &[Step]) -> Result<Response, PgError> {
    check_writable(session, tag)?;
    let steps = steps.to_vec();
    define(session, move |draft| draft.run(&steps)).await?;
    Ok(command(tag))
}

/// CREATE of a source, a connection or a view.
pub(super) async fn create(session: &mut Session, statement: &BoundStatement, text: &str) -> Result<Response, PgError> {
    let tag = tag(statement);
    check_writable(session, tag)?;
    if let Some(existing) = existing(session, statement) {
        session.notice(SqlState::DUPLICATE_TABLE, format!("relation \"{existing}\" already exists, skipping"));
        return Ok(command(tag));
    }
    let statements = match statement {
        BoundStatement::CreateSources(statements) => statements.clone(),
        one => vec![(one.clone(), text.to_string())],
    };
    define(session, move |draft| {
        for (statement, text) in &statements {
            create_one(draft, statement, text)?;
        }
        Ok(())
    })
    .await?;
    Ok(command(tag))
}

fn create_one(draft: &mut Draft<'_>, statement: &BoundStatement, text: &str) -> Result<(), PgError> {
    if let BoundStatement::CreateSource { description, .. } = statement {
        connectors::validate(description)?;
    }
    let object = object_of(statement, text).ok_or_else(|| PgError::internal("not a CREATE statement"))?;
    let query = match statement {
        BoundStatement::CreateView { query, or_replace, .. } => {
            if *or_replace {
                draft.replace_view(&object.schema, &object.name)?;
            }
            Some(query)
        }
        _ => None,
    };
    draft.create(object, query).map(drop)
}

/// CREATE TABLE .. AS: the table and the query's rows.
pub(super) async fn create_table_as(session: &mut Session, prepared: &Prepared) -> Result<Response, PgError> {
    const TAG: &str = "CREATE TABLE AS";
    let BoundStatement::CreateTableAs { table, query, with_data } = prepared.bound() else {
        return Err(PgError::internal("not CREATE TABLE AS"));
    };
    check_writable(session, TAG)?;
    let (columns, row_count) = match with_data {
        false => (Vec::new(), 0),
        true => {
            let plan = sql::optimize(query.plan.clone(), Purpose::Read)?;
            let mut reading = session.reading(prepared.catalog());
            let rows = reading.run(plan, &[]).await?;
            let notices = reading.notices;
            let collected = collect(rows, &query.schema.arrow()).await?;
            session.notices.extend(notices);
            collected
        }
    };
    let table = (**table).clone();
    define(session, move |draft| {
        let made = draft.create(table, None)?;
        if row_count > 0 {
            draft.fill(Change::constant(made.id, columns, row_count, 1));
        }
        Ok(())
    })
    .await?;
    Ok(command(match with_data {
        true => format!("SELECT {row_count}"),
        false => TAG.to_string(),
    }))
}

/// DROP of objects of one kind.
pub(super) async fn drop_objects(
    session: &mut Session,
    kind: Kind,
    objects: &[ObjectId],
    missing: &[String],
    cascade: bool,
) -> Result<Response, PgError> {
    let tag = format!("DROP {}", kind.name().to_uppercase());
    check_writable(session, &tag)?;
    for name in missing {
        let message = format!("{} \"{name}\" does not exist, skipping", kind.name());
        session.notice(SqlState::SUCCESSFUL_COMPLETION, message);
    }
    if objects.is_empty() {
        return Ok(command(tag));
    }
    let before = session.catalog();
    let named = objects.to_vec();
    let dropped = define(session, move |draft| draft.drop_objects(&named, cascade)).await?;
    let told = |object: &&Arc<Object>| {
        let part = dropped.iter().any(|other| catalog::Catalog::is_part_of(object, other.id));
        !objects.contains(&object.id) && !part
    };
    let others: Vec<String> = dropped.iter().filter(told).map(|object| describe(&before, object)).collect();
    match others.as_slice() {
        [] => {}
        [other] => session.notice(SqlState::SUCCESSFUL_COMPLETION, format!("drop cascades to {other}")),
        others => {
            session.notice(SqlState::SUCCESSFUL_COMPLETION, format!("drop cascades to {} other objects", others.len()));
            if let Some(notice) = session.notices.last_mut() {
                let lines: Vec<String> = others.iter().map(|other| format!("drop cascades to {other}")).collect();
                notice.error.detail = Some(lines.join("\n"));
            }
        }
    }
    Ok(command(tag))
}

/// Drops what was made `ON COMMIT DROP`.
pub(super) async fn drop_at_commit(session: &mut Session) -> Result<(), PgError> {
    let Some(transaction) = session.transaction.as_mut() else { return Ok(()) };
    let names = std::mem::take(&mut transaction.drop_at_commit);
    let catalog = session.catalog();
    let found = names.iter().filter_map(|(schema, name)| catalog.in_schema(schema, name));
    let ids: Vec<ObjectId> = found.map(|object| object.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    define(session, move |draft| draft.drop_objects(&ids, true)).await.map(drop)
}

/// Runs `work` on top of the session's catalog: for its transaction, or at once for everyone.
async fn define<T: Send + 'static>(
    session: &mut Session,
    work: impl FnOnce(&mut Draft<'_>) -> Result<T, PgError> + Send + 'static,
) -> Result<T, PgError> {
    let shared = Arc::clone(&session.shared);
    let (asker, naming, base) = (session.asker(), session.naming(), session.transaction_catalog());
    let pending = session.transaction.as_ref().map_or_else(Vec::new, |transaction| transaction.changes.clone());
    let at_once = session.transaction.is_none();
    let (value, mut defined) = blocking(move || {
        // Rows that a definition reads or moves stay as they are until it is there. Always taken before `definitions`.
        let _writing = at_once.then(|| shared.writing.blocking_lock());
        let catalog = base.unwrap_or_else(|| shared.catalog());
        let mut draft = Draft::new(&shared, &catalog, &asker, &naming, &pending);
        let value = {
            let _definitions = shared.definitions.lock();
            shared.check_running()?;
            work(&mut draft)?
        };
        let mut defined = draft.finish();
        if at_once {
            commit_at_once(&shared, &mut defined)?;
        }
        Ok((value, defined))
    })
    .await?;
    let notices = std::mem::take(&mut defined.notices);
    for notice in notices {
        session.notice(notice.state, notice.message);
    }
    if let Some(transaction) = session.transaction.as_mut() {
        transaction.catalog = Some(Arc::clone(&defined.catalog));
        transaction.definitions.extend(defined.take_definitions());
        transaction.changes.append(&mut defined.changes);
        for (table, version) in std::mem::take(&mut defined.read) {
            transaction.locked.entry(table).or_insert(version);
        }
        transaction.moves.append(&mut defined.moves);
        transaction.drop_at_commit.append(&mut defined.drop_at_commit);
    }
    Ok(value)
}

fn commit_at_once(shared: &crate::engine::Shared, defined: &mut Defined) -> Result<(), PgError> {
    let definitions = defined.take_definitions();
    let committed = ddl::commit(shared, &definitions, std::mem::take(&mut defined.changes));
    if committed.is_err() {
        ddl::roll_back(shared, &definitions);
    }
    committed?;
    for (oid, position) in std::mem::take(&mut defined.moves) {
        shared.sequences.set(&shared.storage, oid, position)?;
    }
    Ok(())
}

fn tag(statement: &BoundStatement) -> &'static str {
    match statement {
        BoundStatement::CreateSource { .. } | BoundStatement::CreateSources(_) => "CREATE SOURCE",
        BoundStatement::CreateConnection { .. } => "CREATE CONNECTION",
        BoundStatement::CreateView { materialized: true, .. } => "CREATE MATERIALIZED VIEW",
        _ => "CREATE VIEW",
    }
}

/// The name, where IF NOT EXISTS was said and it does.
fn existing(session: &Session, statement: &BoundStatement) -> Option<String> {
    let (schema, name) = match statement {
        BoundStatement::CreateSource { schema_name, name, if_not_exists: true, .. }
        | BoundStatement::CreateConnection { schema_name, name, if_not_exists: true, .. }
        | BoundStatement::CreateView { schema_name, name, if_not_exists: true, .. } => (schema_name, name),
        // Made together, so either tells.
        BoundStatement::CreateSources(statements) => return existing(session, &statements.first()?.0),
        _ => return None,
    };
    session.catalog().in_schema(schema, name).map(|object| object.name.clone())
}
