//! SHOW: of objects, of a relation's columns, of an object's definition, of settings.

use repr::PgError;

use super::drop::{undefined, wrong_kind};
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
    match context.catalog.resolve(name.schema.as_deref(), &name.name) {
        Some(object) if object.kind_name() == kind.name() => Ok(object.id),
        Some(object) => Err(PgError { hint: None, ..wrong_kind(&object.name, kind, object.kind_name()) }),
        None => Err(undefined(kind, name)),
    }
}
