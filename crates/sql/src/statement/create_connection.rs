//! CREATE CONNECTION name TO KAFKA (BROKER '..'): how to reach an outside system, said once for many sources.

use repr::{PgError, SqlState};

use super::{BoundStatement, creation_target};
use crate::bind::BindContext;
use crate::parse::CreateConnection;

pub(super) fn bind(connection: &CreateConnection, context: &BindContext) -> Result<BoundStatement, PgError> {
    if connection.connector != "kafka" {
        return Err(PgError::unsupported(format!("a connection to {}", connection.connector)));
    }
    for name in connection.options.keys() {
        if name != "broker" && !name.starts_with("properties.") {
            let message = format!("option \"{name}\" not recognized");
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message)
                .with_hint("A connection to Kafka has the options BROKER and properties.<name of librdkafka's>."));
        }
    }
    if !connection.options.contains_key("broker") {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "option BROKER is required for a connection to Kafka"));
    }
    Ok(BoundStatement::CreateConnection {
        schema_name: creation_target(&connection.name, false, context)?.schema,
        name: connection.name.name.clone(),
        connector: connection.connector.clone(),
        options: connection.options.clone(),
        if_not_exists: connection.if_not_exists,
    })
}
