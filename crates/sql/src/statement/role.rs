//! Statements about roles: only the tables of GRANT are looked up here, the roles where the statement runs.

use repr::PgError;

use super::{BoundStatement, resolve};
use crate::bind::BindContext;
use crate::parse::RoleStatement;

/// Errors: 42P01 for a table of GRANT that does not exist.
pub(super) fn bind(statement: &RoleStatement, context: &BindContext) -> Result<BoundStatement, PgError> {
    if let RoleStatement::GrantPrivileges { tables, .. } = statement {
        for table in tables {
            resolve(table, context)?;
        }
    }
    Ok(BoundStatement::Role(statement.clone()))
}
