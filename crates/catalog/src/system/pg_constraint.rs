//! `pg_constraint`: the primary keys.

use super::pg_index::column_list;
use super::{Snapshot, SystemRelation, Value, primary_key_oid, primary_keys, schema_oid, text};
use crate::Catalog;

pub(super) const RELATIONS: &[SystemRelation] = &[SystemRelation {
    oid: 2606,
    schema: "pg_catalog",
    name: "pg_constraint",
    columns: "oid oid, conname name, connamespace oid, contype text, condeferrable bool, condeferred bool, \
              convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, \
              confupdtype text, confdeltype text, confmatchtype text, conislocal bool, coninhcount int4, \
              connoinherit bool, conkey _int2, confkey _int2, conpfeqop _oid, conppeqop _oid, conffeqop _oid, \
              confdelsetcols _int2, conexclop _oid, conbin text",
    rows: constraints,
}];

fn constraints(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    primary_keys(&snapshot.catalog)
        .map(|(table, _, key)| {
            let oid = primary_key_oid(table.id);
            vec![
                Value::Oid(oid),
                text(format!("{}_pkey", table.name)),
                Value::Oid(schema_oid(&table.schema)),
                text("p"),
                Value::Bool(false),
                Value::Bool(false),
                Value::Bool(true),
                Value::Oid(table.id.0),
                Value::Oid(0),
                Value::Oid(oid),
                Value::Oid(0),
                Value::Oid(0),
                text(" "),
                text(" "),
                text(" "),
                Value::Bool(true),
                Value::Int(0),
                Value::Bool(true),
                Value::Ints(key.iter().map(|column| *column as i64 + 1).collect()),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
            ]
        })
        .collect()
}

/// What `pg_get_constraintdef` says of the constraint with this OID.
pub fn constraint_definition(catalog: &Catalog, oid: u32) -> Option<String> {
    let (_, schema, key) = primary_keys(catalog).find(|(table, ..)| primary_key_oid(table.id) == oid)?;
    Some(format!("PRIMARY KEY ({})", column_list(schema, key)))
}
