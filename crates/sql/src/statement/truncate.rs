//! TRUNCATE: all rows of some tables go at once.

use catalog::system::quote_identifier;
use repr::{ObjectId, PgError, SqlState};

use super::{BoundStatement, resolve_changeable_table};
use crate::bind::{BindContext, BoundQuery, bind_query_for};
use crate::parse::{Name, Truncate, parse_query};

pub(super) fn bind(truncate: &Truncate, context: &BindContext) -> Result<BoundStatement, PgError> {
    let mut tables: Vec<(ObjectId, BoundQuery)> = Vec::with_capacity(truncate.tables.len());
    let mut waiting: Vec<Name> = truncate.tables.iter().rev().cloned().collect();
    while let Some(name) = waiting.pop() {
        let (table, schema) = resolve_changeable_table(&name, "TRUNCATE", context)?;
        if tables.iter().any(|(known, _)| *known == table.id) {
            continue;
        }
        let text = [&table.schema, &table.name].map(|part| quote_identifier(part)).join(".");
        let all = parse_query(&format!("SELECT * FROM {text}"))?;
        tables.push((table.id, bind_query_for(&all, &schema.columns, context)?));
        if truncate.cascade {
            let referring = context.catalog.references(table.id).filter_map(|(_, from, _)| context.catalog.get(from));
            waiting.extend(referring.map(|from| Name {
                schema: Some(from.schema.clone()),
                name: from.name.clone(),
                position: name.position,
            }));
        }
    }
    check_references(&tables, context)?;
    Ok(BoundStatement::Truncate { tables, restart_identity: truncate.restart_identity })
}

/// Errors: 0A000 if another table refers to one of these.
fn check_references(tables: &[(ObjectId, BoundQuery)], context: &BindContext) -> Result<(), PgError> {
    for (id, _) in tables {
        for (constraint, from, _) in context.catalog.references(*id) {
            if tables.iter().any(|(known, _)| *known == from) {
                continue;
            }
            let name = |id: ObjectId| context.catalog.get(id).map_or("", |object| object.name.as_str());
            let message = "cannot truncate a table referenced in a foreign key constraint";
            let detail = format!("Table \"{}\" references \"{}\" by \"{}\".", name(from), name(*id), constraint.name);
            return Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_detail(detail).with_hint(format!(
                "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                name(from)
            )));
        }
    }
    Ok(())
}
