//! TRUNCATE: all rows of some tables go at once.

use catalog::system::quote_identifier;
use repr::PgError;

use super::{BoundStatement, resolve_changeable_table};
use crate::bind::{BindContext, bind_query_for};
use crate::parse::{Name, parse_query};

pub(super) fn bind(names: &[Name], context: &BindContext) -> Result<BoundStatement, PgError> {
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let (table, schema) = resolve_changeable_table(name, "TRUNCATE", context)?;
        if tables.iter().any(|(known, _)| *known == table.id) {
            continue;
        }
        let name = [&table.schema, &table.name].map(|part| quote_identifier(part)).join(".");
        let all = parse_query(&format!("SELECT * FROM {name}"))?;
        tables.push((table.id, bind_query_for(&all, &schema.columns, context)?));
    }
    Ok(BoundStatement::Truncate(tables))
}
