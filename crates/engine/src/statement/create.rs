//! CREATE of anything.

use std::sync::Arc;

use repr::{PgError, SqlState};
use sql::BoundStatement;

use crate::ddl;
use crate::engine::Shared;
use crate::response::Response;
use crate::session::Session;
use crate::statement::{blocking, check_writable, command};
use crate::transaction::Definition;

pub(super) async fn run(session: &mut Session, statement: &BoundStatement, text: &str) -> Result<Response, PgError> {
    let tag = tag(statement);
    check_writable(session, tag)?;
    if let Some(existing) = existing(session, statement) {
        session.notice(SqlState::DUPLICATE_TABLE, format!("relation \"{existing}\" already exists, skipping"));
        return Ok(command(tag));
    }
    let durable = session.transaction.is_none();
    let shared = Arc::clone(&session.shared);
    let statements = match statement {
        BoundStatement::CreateSources(statements) => statements.clone(),
        one => vec![(one.clone(), text.to_string())],
    };
    let created = blocking(move || create_all(&shared, &statements, durable)).await?;
    if let Some(transaction) = session.transaction.as_mut() {
        transaction.definitions.extend(created);
    }
    Ok(command(tag))
}

/// All objects of one statement, or none of them.
fn create_all(
    shared: &Shared,
    statements: &[(BoundStatement, String)],
    durable: bool,
) -> Result<Vec<Definition>, PgError> {
    let at_once = durable && statements.len() == 1;
    let mut created = Vec::new();
    for (statement, text) in statements {
        let valid = match statement {
            BoundStatement::CreateSource { description, .. } => connectors::validate(description),
            _ => Ok(()),
        };
        match valid.and_then(|()| ddl::create(shared, statement, text, at_once)) {
            Ok(object) => created.push(Definition::Created(object)),
            Err(error) => {
                created.reverse();
                ddl::roll_back(shared, &created);
                return Err(error);
            }
        }
    }
    if durable && !at_once {
        ddl::commit(shared, &created)?;
    }
    Ok(created)
}

fn tag(statement: &BoundStatement) -> &'static str {
    match statement {
        BoundStatement::CreateTable { .. } => "CREATE TABLE",
        BoundStatement::CreateSource { .. } | BoundStatement::CreateSources(_) => "CREATE SOURCE",
        BoundStatement::CreateConnection { .. } => "CREATE CONNECTION",
        BoundStatement::CreateView { materialized: true, .. } => "CREATE MATERIALIZED VIEW",
        BoundStatement::CreateView { .. } => "CREATE VIEW",
        _ => "CREATE INDEX",
    }
}

/// The name, where IF NOT EXISTS was said and it does.
fn existing(session: &Session, statement: &BoundStatement) -> Option<String> {
    let (schema, name) = match statement {
        BoundStatement::CreateTable { schema_name, name, if_not_exists: true, .. }
        | BoundStatement::CreateSource { schema_name, name, if_not_exists: true, .. }
        | BoundStatement::CreateConnection { schema_name, name, if_not_exists: true, .. }
        | BoundStatement::CreateView { schema_name, name, if_not_exists: true, .. }
        | BoundStatement::CreateIndex { schema_name, name, if_not_exists: true, .. } => (schema_name, name),
        // Made together, so either tells.
        BoundStatement::CreateSources(statements) => return existing(session, &statements.first()?.0),
        _ => return None,
    };
    session.shared.catalog().resolve(Some(schema), name).map(|object| object.name.clone())
}
