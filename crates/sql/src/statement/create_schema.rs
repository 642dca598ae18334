//! CREATE SCHEMA.

use catalog::{Object, ObjectKind};
use repr::{ObjectId, PgError, SqlState};

use super::{BoundStatement, Step};
use crate::bind::BindContext;
use crate::parse::CreateSchema;

pub(super) fn bind(create: &CreateSchema, context: &BindContext) -> Result<BoundStatement, PgError> {
    const TAG: &str = "CREATE SCHEMA";
    if create.name.starts_with("pg_") {
        let message = format!("unacceptable schema name \"{}\"", create.name);
        return Err(PgError::new(SqlState::RESERVED_NAME, message)
            .with_detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    let object = Object::new(ObjectId(0), "", &create.name, ObjectKind::Schema);
    if context.catalog.has_schema(&create.name) {
        let error = context.catalog.duplicate(&object);
        return match create.if_not_exists {
            true => {
                let notice = PgError { message: format!("{}, skipping", error.message), ..error };
                Ok(BoundStatement::Define { tag: TAG, steps: vec![Step::Notice(notice)] })
            }
            false => Err(error),
        };
    }
    Ok(BoundStatement::Define { tag: TAG, steps: vec![Step::Create(Box::new(object))] })
}
