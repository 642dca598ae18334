//! `pg_index`: every index, the primary keys' among them, and `pg_indexes`, the same for people.

use super::pg_attribute::collation;
use super::postgres::operator_class;
use super::{Snapshot, SystemRelation, Value, text};
use crate::definition::index_definition;
use crate::{ObjectKind, Uniqueness};

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

fn indexes(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        let ObjectKind::Index { on, columns, uniqueness } = &object.kind else { continue };
        let Some(relation) = snapshot.catalog.get(*on) else { continue };
        let Some(schema) = relation.relation_schema() else { continue };
        let (primary, unique) = (*uniqueness == Uniqueness::PrimaryKey, *uniqueness != Uniqueness::None);
        rows.push(vec![
            Value::Oid(object.oid),
            Value::Oid(relation.oid),
            Value::Int(columns.len() as i64),
            Value::Int(columns.len() as i64),
            Value::Bool(unique),
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
            Value::Ints(columns.iter().map(|column| relation.column_number(*column) as i64).collect()),
            Value::Oids(columns.iter().map(|column| collation(&schema.columns[*column].sql_type)).collect()),
            Value::Oids(columns.iter().map(|column| operator_class(schema.columns[*column].sql_type.oid())).collect()),
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
    for index in catalog.objects() {
        let ObjectKind::Index { on, .. } = &index.kind else { continue };
        let Some(relation) = catalog.get(*on) else { continue };
        let definition = index_definition(index, catalog).map_or(Value::Null, text);
        rows.push(vec![text(&relation.schema), text(&relation.name), text(&index.name), Value::Null, definition]);
    }
    rows
}
