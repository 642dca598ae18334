//! DECLARE, FETCH, MOVE, CLOSE.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use catalog::Catalog;
use repr::{PgError, SqlState};
use sql::parse::FetchDirection;
use sql::{BoundStatement, Purpose};

use crate::constant::moment;
use crate::cursor::{Cursor, Scroll};
use crate::read::stream_of;
use crate::response::{Response, RowsTag};
use crate::session::Session;
use crate::statement::{command, subscribe};

/// What a cursor keeps.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    /// Itself, after the transaction.
    pub(super) hold: bool,
    /// Rows, to go back: SCROLL or NO SCROLL, where one was said.
    pub(super) scroll: Option<bool>,
}

pub(super) async fn declare(
    session: &mut Session,
    catalog: &Arc<Catalog>,
    name: &str,
    binary: bool,
    kept: Kept,
    statement: &BoundStatement,
    parameters: Vec<ArrayRef>,
) -> Result<Response, PgError> {
    if binary {
        return Err(PgError::unsupported("a binary cursor"));
    }
    if session.transaction.as_ref().is_none_or(|transaction| transaction.implicit) && !kept.hold {
        return Err(PgError::new(SqlState("25P01"), "DECLARE CURSOR can only be used in transaction blocks"));
    }
    if session.cursors.contains_key(name) {
        return Err(PgError::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
    }
    let (schema, rows, endless) = match statement {
        BoundStatement::Query(query) => {
            let plan = sql::optimize(query.plan.clone(), Purpose::Read)?;
            let mut reading = session.reading(catalog);
            reading.as_of = query.as_of.as_ref().map(|at| moment(session, at)).transpose()?;
            let rows = reading.run(plan, &parameters).await?;
            let notices = reading.notices;
            session.notices.extend(notices);
            (query.schema.clone(), rows, false)
        }
        BoundStatement::Subscribe { .. } if kept.scroll == Some(true) => {
            return Err(PgError::unsupported("SCROLL for a SUBSCRIBE"));
        }
        BoundStatement::Subscribe { .. } => match subscribe::run(session, catalog, statement).await? {
            Response::Rows { schema, rows, .. } => (schema, rows, true),
            _ => return Err(PgError::internal("a SUBSCRIBE without rows")),
        },
        _ => return Err(PgError::unsupported("a cursor for this statement")),
    };
    let scroll = match kept.scroll {
        Some(true) => Scroll::Yes,
        Some(false) => Scroll::No,
        None => Scroll::Unsaid,
    };
    session.cursors.insert(name.to_string(), Cursor::new(schema, rows, endless, scroll, kept.hold));
    Ok(command("DECLARE CURSOR"))
}

pub(super) async fn advance(
    session: &mut Session,
    name: &str,
    direction: FetchDirection,
    timeout: Option<Duration>,
) -> Result<Response, PgError> {
    let cursor = session.cursors.get_mut(name).ok_or_else(|| undefined(name))?;
    Ok(command(format!("MOVE {}", cursor.advance(direction, timeout).await?)))
}

pub(super) async fn fetch(
    session: &mut Session,
    name: &str,
    direction: FetchDirection,
    timeout: Option<Duration>,
) -> Result<Response, PgError> {
    let cursor = session.cursors.get_mut(name).ok_or_else(|| undefined(name))?;
    let batches = cursor.fetch(direction, timeout).await?;
    Ok(Response::Rows { schema: cursor.schema.clone(), rows: stream_of(batches), tag: RowsTag::Fetch })
}

pub(super) fn close(session: &mut Session, name: Option<&str>) -> Result<Response, PgError> {
    match name {
        None => {
            session.cursors.clear();
            Ok(command("CLOSE CURSOR ALL"))
        }
        Some(name) => {
            session.cursors.remove(name).ok_or_else(|| undefined(name))?;
            Ok(command("CLOSE CURSOR"))
        }
    }
}

pub(super) fn undefined(name: &str) -> PgError {
    PgError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
}
