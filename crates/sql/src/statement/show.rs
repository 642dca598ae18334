//! SHOW: of objects, of a relation's columns, of an object's definition, of settings.

use repr::PgError;

use super::drop::resolve_kind;
use super::{BoundStatement, resolve};
use crate::bind::BindContext;
use crate::parse::{Kind, Name, Show};

pub(super) fn bind(show: &Show, context: &BindContext) -> Result<BoundStatement, PgError> {
    Ok(match show {
        Show::Objects(kind) => BoundStatement::ShowObjects(*kind),
        Show::Columns(name) => BoundStatement::ShowColumns(resolve(name, context)?.id),
        Show::Create(kind, name) => BoundStatement::ShowCreate(object_of_kind(*kind, name, context)?),
        Show::All => BoundStatement::ShowSetting(None),
        Show::Setting(name) => BoundStatement::ShowSetting(Some(name.clone())),
    })
}

/// The object of that kind and name. Errors: 42P01 or 42704, and 42809 for another kind.
pub(super) fn object_of_kind(kind: Kind, name: &Name, context: &BindContext) -> Result<repr::ObjectId, PgError> {
    let found = resolve_kind(kind, name, context);
    found.map(|object| object.id).map_err(|error| PgError { hint: None, ..error })
}
