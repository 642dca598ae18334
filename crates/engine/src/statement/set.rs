//! SET, RESET, DISCARD.

use repr::{PgError, SqlState};
use sql::parse::DiscardTarget;

use crate::deferred::{roles, unlisten_all};
use crate::response::Response;
use crate::session::Session;
use crate::statement::command;
use crate::statement::transaction::set_local;

pub(super) fn run(session: &mut Session, name: &str, value: Option<&str>, local: bool) -> Result<Response, PgError> {
    if name.eq_ignore_ascii_case("role") {
        check_role(session, value)?;
    }
    match (local, value) {
        (true, Some(value)) if session.transaction.is_some() => set_local(session, name, value)?,
        (true, _) if session.transaction.is_none() => {
            // Obeyed for no statement at all, but a wrong name or value is still an error.
            session.settings.clone().set(name, value)?;
            session.warning(SqlState("25P01"), "SET LOCAL can only be used in transaction blocks");
        }
        _ => session.settings.set(name, value)?,
    }
    if name == "application_name" {
        session.note_application_name();
    }
    Ok(command("SET"))
}

/// Errors: `22023` for no role, `42501` for one that the session's user is no member of.
fn check_role(session: &Session, value: Option<&str>) -> Result<(), PgError> {
    let Some(name) = value.filter(|name| *name != "none") else { return Ok(()) };
    let roles = roles(session)?;
    let role = roles
        .iter()
        .find(|role| role.name == name)
        .ok_or_else(|| PgError::new(SqlState::INVALID_PARAMETER_VALUE, format!("role \"{name}\" does not exist")))?;
    match session.own_rights().is_member(&roles, role.oid) {
        true => Ok(()),
        false => Err(PgError::new(SqlState("42501"), format!("permission denied to set role \"{name}\""))),
    }
}

pub(super) fn reset(session: &mut Session, name: Option<&str>) -> Result<Response, PgError> {
    match name {
        Some(name) => session.settings.set(name, None)?,
        None => session.settings.reset_all(),
    }
    Ok(command("RESET"))
}

pub(super) fn discard(session: &mut Session, target: DiscardTarget) -> Result<Response, PgError> {
    let tag = match target {
        DiscardTarget::All => {
            if session.transaction.as_ref().is_some_and(|transaction| !transaction.implicit) {
                return Err(PgError::new(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "DISCARD ALL cannot run inside a transaction block",
                ));
            }
            session.settings.reset_all();
            session.cursors.clear();
            session.statements.clear();
            unlisten_all(session);
            "DISCARD ALL"
        }
        DiscardTarget::Plans => "DISCARD PLANS",
        DiscardTarget::Sequences => "DISCARD SEQUENCES",
        DiscardTarget::Temp => "DISCARD TEMP",
    };
    Ok(command(tag))
}
