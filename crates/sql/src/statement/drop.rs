//! DROP: names to objects of the right kind. What depends on them is `engine`'s to find at the moment it drops.

use catalog::{Object, ObjectKind};
use repr::{PgError, SqlState};

use super::BoundStatement;
use crate::bind::BindContext;
use crate::parse::{Drop, Kind, Name};

pub(super) fn bind(drop: &Drop, context: &BindContext) -> Result<BoundStatement, PgError> {
    let (mut objects, mut missing) = (Vec::new(), Vec::new());
    for name in &drop.names {
        match resolve_kind(drop.kind, name, context) {
            Ok(object) if is_system(object) => {
                let message = format!("permission denied: \"{}\" is a system catalog", object.name);
                return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
            Ok(object) if objects.contains(&object.id) => {}
            Ok(object) => {
                check_no_constraint(object, context)?;
                objects.push(object.id);
            }
            Err(error) if drop.if_exists && is_undefined(&error) => missing.push(name.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(BoundStatement::Drop { kind: drop.kind, objects, missing, cascade: drop.cascade })
}

fn is_system(object: &Object) -> bool {
    object.id.0 < catalog::FIRST_USER_ID
}

/// Errors: 2BP01 for the index of a constraint, which goes with that.
fn check_no_constraint(object: &Object, context: &BindContext) -> Result<(), PgError> {
    let ObjectKind::Index { on, uniqueness, .. } = &object.kind else { return Ok(()) };
    if !uniqueness.is_constraint() {
        return Ok(());
    }
    let table = context.catalog.get(*on).map_or("", |table| table.name.as_str());
    let name = &object.name;
    let message = format!("cannot drop index {name} because constraint {name} on table {table} requires it");
    Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_hint(format!("You can drop constraint {name} on table {table} instead.")))
}

/// The object of that kind and name. Errors: 42P01, 42704 or 3F000 where there is none, 42809 for another kind.
pub(super) fn resolve_kind<'a>(kind: Kind, name: &Name, context: &'a BindContext) -> Result<&'a Object, PgError> {
    if kind == Kind::Schema {
        return match context.catalog.schema(&name.name) {
            Some(schema) => Ok(schema),
            None if context.catalog.has_schema(&name.name) => {
                Err(PgError::unsupported(format!("changing schema \"{}\"", name.name)))
            }
            None => Err(undefined(kind, name)),
        };
    }
    match context.resolve(name.schema.as_deref(), &name.name) {
        Some(object) if object.kind_name() == kind.name() => Ok(object),
        // ALTER TABLE speaks of any relation, as PostgreSQL's does.
        Some(object) => Err(wrong_kind(&object.name, kind, object.kind_name())),
        None => match &name.schema {
            Some(schema) if !context.catalog.has_schema(schema) && schema != "pg_temp" => {
                Err(PgError::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist")))
            }
            _ => Err(undefined(kind, name)),
        },
    }
}

/// Whether the error says that there is no such object.
pub(super) fn is_undefined(error: &PgError) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_OBJECT, SqlState::INVALID_SCHEMA_NAME].contains(&error.state)
}

/// The error for a `name` of which there is nothing of this kind. Tables have a SQLSTATE of their own, as their kin.
pub(super) fn undefined(kind: Kind, name: &Name) -> PgError {
    let state = match kind {
        Kind::Table | Kind::View | Kind::MaterializedView | Kind::Source | Kind::Sequence => SqlState::UNDEFINED_TABLE,
        Kind::Connection | Kind::Index => SqlState::UNDEFINED_OBJECT,
        Kind::Schema => SqlState::INVALID_SCHEMA_NAME,
    };
    let word = if kind == Kind::Sequence { "relation" } else { kind.name() };
    PgError::new(state, format!("{word} \"{name}\" does not exist"))
}

pub(super) fn wrong_kind(name: &str, expected: Kind, found: &str) -> PgError {
    let article = if expected == Kind::Index { "an" } else { "a" };
    let message = format!("\"{name}\" is not {article} {}", expected.name());
    PgError::new(SqlState::WRONG_OBJECT_TYPE, message)
        .with_hint(format!("Use DROP {} to remove a {found}.", found.to_uppercase()))
}
