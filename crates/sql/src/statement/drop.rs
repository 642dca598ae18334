//! DROP: names to objects of the right kind. What depends on them is `engine`'s to find at the moment it drops.

use repr::{PgError, SqlState};

use super::BoundStatement;
use crate::bind::BindContext;
use crate::parse::{Drop, Kind, Name};

pub(super) fn bind(drop: &Drop, context: &BindContext) -> Result<BoundStatement, PgError> {
    let (mut objects, mut missing) = (Vec::new(), Vec::new());
    for name in &drop.names {
        match context.catalog.resolve(name.schema.as_deref(), &name.name) {
            Some(object) if object.kind_name() != drop.kind.name() => {
                return Err(wrong_kind(&object.name, drop.kind, object.kind_name()));
            }
            Some(object) if object.id.0 < catalog::FIRST_USER_ID => {
                let message = format!("permission denied: \"{}\" is a system catalog", object.name);
                return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
            Some(object) if objects.contains(&object.id) => {}
            Some(object) => objects.push(object.id),
            None if drop.if_exists => missing.push(name.to_string()),
            None => return Err(undefined(drop.kind, name)),
        }
    }
    Ok(BoundStatement::Drop { kind: drop.kind, objects, missing, cascade: drop.cascade })
}

/// The error for a `name` of which there is nothing of this kind. Tables have a SQLSTATE of their own, as their kin.
pub(super) fn undefined(kind: Kind, name: &Name) -> PgError {
    let state = match kind {
        Kind::Table | Kind::View | Kind::MaterializedView | Kind::Source => SqlState::UNDEFINED_TABLE,
        Kind::Connection | Kind::Index => SqlState::UNDEFINED_OBJECT,
    };
    PgError::new(state, format!("{} \"{name}\" does not exist", kind.name()))
}

pub(super) fn wrong_kind(name: &str, expected: Kind, found: &str) -> PgError {
    let article = if expected == Kind::Index { "an" } else { "a" };
    let message = format!("\"{name}\" is not {article} {}", expected.name());
    PgError::new(SqlState::WRONG_OBJECT_TYPE, message)
        .with_hint(format!("Use DROP {} to remove a {found}.", found.to_uppercase()))
}
