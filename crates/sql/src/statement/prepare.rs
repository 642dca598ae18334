//! PREPARE and EXECUTE: the statements, not the protocol's messages.

use repr::{PgError, RelationSchema, SqlType};

use super::BoundStatement;
use crate::bind::{BindContext, bind_expr_over};
use crate::cast::type_from_ast;
use crate::parse::{Execute, Prepare};

pub(super) fn bind_prepare(prepare: &Prepare) -> Result<BoundStatement, PgError> {
    let types = prepare.types.iter().map(|data_type| match type_from_ast(data_type)? {
        (SqlType::Unknown, _) => Ok(None),
        (sql_type, _) => Ok(Some(sql_type)),
    });
    Ok(BoundStatement::Prepare {
        name: prepare.name.clone(),
        parameter_types: types.collect::<Result<_, PgError>>()?,
        statement: prepare.statement.clone(),
    })
}

pub(super) fn bind_execute(execute: &Execute, context: &BindContext) -> Result<BoundStatement, PgError> {
    let none = RelationSchema::new(Vec::new());
    let parameters = execute.parameters.iter().map(|parameter| bind_expr_over(None, &none, parameter, context));
    Ok(BoundStatement::Execute { name: execute.name.clone(), parameters: parameters.collect::<Result<_, PgError>>()? })
}
