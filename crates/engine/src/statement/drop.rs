//! DROP.

use std::sync::Arc;

use repr::{ObjectId, PgError, SqlState};
use sql::parse::Kind;

use crate::ddl;
use crate::response::Response;
use crate::session::Session;
use crate::statement::{blocking, check_writable, command};
use crate::transaction::Definition;

pub(super) async fn run(
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
    if let Some(transaction) = session.transaction.as_ref()
        && transaction.changes.iter().any(|change| objects.contains(&change.table))
    {
        return Err(PgError::unsupported("dropping a table that this transaction block has written"));
    }
    let durable = session.transaction.is_none();
    let (shared, named) = (Arc::clone(&session.shared), objects.to_vec());
    let dropped = blocking(move || ddl::drop_objects(&shared, &named, cascade, durable)).await?;
    let others: Vec<String> = dropped
        .iter()
        .filter(|object| !objects.contains(&object.id) && object.kind_name() != "index")
        .map(|object| format!("{} {}", object.kind_name(), object.name))
        .collect();
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
    if let Some(transaction) = session.transaction.as_mut() {
        transaction.definitions.extend(dropped.into_iter().map(Definition::Dropped));
    }
    Ok(command(tag))
}
