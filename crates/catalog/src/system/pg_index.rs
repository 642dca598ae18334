//! `pg_index`: every index, the primary keys' among them, and `pg_indexes`, the same for people.

use repr::{ObjectId, RelationSchema};

use super::pg_attribute::collation;
use super::{Snapshot, SystemRelation, Value, primary_key_oid, primary_keys, quote_identifier, text};
use crate::{Catalog, ObjectKind};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 2610,
        schema: "pg_catalog",
        name: "pg_index",
        columns: "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, \
                  indnullsnotdistinct bool, indisprimary bool, indisexclusion bool, indimmediate bool, \
                  indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool, indislive bool, \
                  indisreplident bool, indkey _int2, indcollation _oid, indclass _oid, indoption _int2, \
                  indexprs text, indpred text",
        rows: indexes,
    },
    SystemRelation {
        oid: 12010,
        schema: "pg_catalog",
        name: "pg_indexes",
        columns: "schemaname name, tablename name, indexname name, tablespace name, indexdef text",
        rows: index_texts,
    },
];

/// `(OID, relation, columns, whether it is the primary key)` of every index.
fn all(catalog: &Catalog) -> Vec<(u32, ObjectId, Vec<usize>, bool)> {
    let declared = catalog.objects().filter_map(|object| match &object.kind {
        ObjectKind::Index { on, columns } => Some((object.id.0, *on, columns.clone(), false)),
        _ => None,
    });
    let keys = primary_keys(catalog).map(|(table, _, key)| (primary_key_oid(table.id), table.id, key.clone(), true));
    declared.chain(keys).collect()
}

fn indexes(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (oid, on, columns, primary) in all(&snapshot.catalog) {
        let Some(schema) = snapshot.catalog.get(on).and_then(|relation| relation.relation_schema()) else { continue };
        rows.push(vec![
            Value::Oid(oid),
            Value::Oid(on.0),
            Value::Int(columns.len() as i64),
            Value::Int(columns.len() as i64),
            Value::Bool(primary),
            Value::Bool(false),
            Value::Bool(primary),
            Value::Bool(false),
            Value::Bool(true),
            Value::Bool(false),
            Value::Bool(true),
            Value::Bool(false),
            Value::Bool(true),
            Value::Bool(true),
            Value::Bool(false),
            Value::Ints(columns.iter().map(|column| *column as i64 + 1).collect()),
            Value::Oids(columns.iter().map(|column| collation(&schema.columns[*column].sql_type)).collect()),
            Value::Oids(vec![0; columns.len()]),
            Value::Ints(vec![0; columns.len()]),
            Value::Null,
            Value::Null,
        ]);
    }
    rows
}

fn index_texts(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let mut rows = Vec::new();
    for (oid, on, _, primary) in all(catalog) {
        let Some(relation) = catalog.get(on) else { continue };
        let name = match catalog.get(ObjectId(oid)) {
            Some(index) => index.name.clone(),
            None if primary => format!("{}_pkey", relation.name),
            None => continue,
        };
        let definition = index_definition(catalog, oid).map_or(Value::Null, text);
        rows.push(vec![text(&relation.schema), text(&relation.name), text(name), Value::Null, definition]);
    }
    rows
}

/// What `pg_get_indexdef` says of the index with this OID.
pub fn index_definition(catalog: &Catalog, oid: u32) -> Option<String> {
    let (_, on, columns, primary) = all(catalog).into_iter().find(|(index, ..)| *index == oid)?;
    let relation = catalog.get(on)?;
    let name = match catalog.get(ObjectId(oid)) {
        Some(index) => index.name.clone(),
        None => format!("{}_pkey", relation.name),
    };
    Some(format!(
        "CREATE {}INDEX {} ON {}.{} USING btree ({})",
        if primary { "UNIQUE " } else { "" },
        quote_identifier(&name),
        quote_identifier(&relation.schema),
        quote_identifier(&relation.name),
        column_list(relation.relation_schema()?, &columns),
    ))
}

/// `a, b`.
pub(super) fn column_list(schema: &RelationSchema, columns: &[usize]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quote_identifier(&schema.columns[*column].name)).collect();
    names.join(", ")
}
