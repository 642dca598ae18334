//! COMMENT ON: kept with the object.

use catalog::Object;
use repr::{PgError, SqlState};

use super::{BoundStatement, Step, resolve};
use crate::bind::BindContext;
use crate::parse::{Comment, Commented};

pub(super) fn bind(comment: &Comment, context: &BindContext) -> Result<BoundStatement, PgError> {
    let (object, number) = match &comment.on {
        Commented::Object(kind, name) => (super::drop::resolve_kind(*kind, name, context)?, 0),
        Commented::Column(relation, column) => {
            let object = resolve(relation, context)?;
            let schema = object.relation_schema();
            let index = schema.and_then(|schema| schema.column_index(column)).ok_or_else(|| {
                let message = format!("column \"{column}\" of relation \"{}\" does not exist", object.name);
                PgError::new(SqlState::UNDEFINED_COLUMN, message)
            })?;
            (object, object.column_number(index))
        }
        Commented::Constraint(name, table) => {
            let table = resolve(table, context)?;
            (super::alter::constraint_named(table, name, context)?, 0)
        }
        Commented::Database => return Ok(BoundStatement::Define { tag: TAG, steps: Vec::new() }),
    };
    let mut object: Object = object.clone();
    match &comment.text {
        Some(text) => object.comments.insert(number, text.clone()),
        None => object.comments.remove(&number),
    };
    Ok(BoundStatement::Define { tag: TAG, steps: vec![Step::Replace(Box::new(object))] })
}

const TAG: &str = "COMMENT";
