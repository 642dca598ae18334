//! PREPARE, EXECUTE, DEALLOCATE: the statements.

use repr::{PgError, RelationSchema, SqlState, SqlType};
use sql::Statement;
use sql::cast::{CastContext, cast};
use sql::typed::TypedExpr;

use crate::constant;
use crate::response::Response;
use crate::session::Session;
use crate::statement::{command, run};

pub(super) fn prepare(
    session: &mut Session,
    name: &str,
    parameter_types: &[Option<SqlType>],
    statement: &Statement,
) -> Result<Response, PgError> {
    if session.statements.contains_key(name) {
        let message = format!("prepared statement \"{name}\" already exists");
        return Err(PgError::new(SqlState::DUPLICATE_PREPARED_STATEMENT, message));
    }
    let prepared = session.bind(statement, parameter_types)?;
    session.statements.insert(name.to_string(), prepared);
    Ok(command("PREPARE"))
}

pub(super) async fn execute(session: &mut Session, name: &str, parameters: &[TypedExpr]) -> Result<Response, PgError> {
    let prepared = session.statements.get(name).ok_or_else(|| undefined(name))?.clone();
    let types = prepared.parameter_types().to_vec();
    if types.len() != parameters.len() {
        return Err(PgError::new(
            SqlState::SYNTAX_ERROR,
            format!("wrong number of parameters for prepared statement \"{name}\""),
        )
        .with_detail(format!("Expected {} parameters but got {}.", types.len(), parameters.len())));
    }
    let mut values = Vec::with_capacity(types.len());
    for (parameter, sql_type) in parameters.iter().zip(&types) {
        let typed = cast(parameter.clone(), sql_type, -1, CastContext::Assignment)?;
        let none = RelationSchema::default();
        values.extend(constant::evaluate(session, &[typed.expr], &none, &[], 1)?);
    }
    let types: Vec<Option<SqlType>> = types.into_iter().map(Some).collect();
    let current = session.bind(prepared.statement(), &types)?;
    if current.columns() != prepared.columns() {
        return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type"));
    }
    run(session, &current, values).await
}

pub(super) fn deallocate(session: &mut Session, name: Option<&str>) -> Result<Response, PgError> {
    match name {
        None => {
            session.statements.clear();
            Ok(command("DEALLOCATE ALL"))
        }
        Some(name) => {
            session.statements.remove(name).ok_or_else(|| undefined(name))?;
            Ok(command("DEALLOCATE"))
        }
    }
}

pub(super) fn undefined(name: &str) -> PgError {
    PgError::new(SqlState::INVALID_SQL_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
}
