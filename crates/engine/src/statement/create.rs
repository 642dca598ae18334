//! CREATE of anything.

use std::sync::Arc;

use repr::{PgError, SqlState};
use sql::BoundStatement;

use crate::ddl;
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
    let (shared, statement, text) = (Arc::clone(&session.shared), statement.clone(), text.to_string());
    let object = blocking(move || {
        if let BoundStatement::CreateSource { description, .. } = &statement {
            connectors::validate(description)?;
        }
        ddl::create(&shared, &statement, &text, durable)
    })
    .await?;
    if let Some(transaction) = session.transaction.as_mut() {
        transaction.definitions.push(Definition::Created(object));
    }
    Ok(command(tag))
}

fn tag(statement: &BoundStatement) -> &'static str {
    match statement {
        BoundStatement::CreateTable { .. } => "CREATE TABLE",
        BoundStatement::CreateSource { .. } => "CREATE SOURCE",
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
        _ => return None,
    };
    session.shared.catalog().resolve(Some(schema), name).map(|object| object.name.clone())
}
