//! `pg_tables`, `pg_views`, `pg_matviews`: the relations for people.

use super::{OWNER_NAME, Snapshot, SystemRelation, Value, text};
use crate::ObjectKind;
use crate::definition::view_query;

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 12005,
        schema: "pg_catalog",
        name: "pg_tables",
        columns: "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool, \
                  hastriggers bool, rowsecurity bool",
        rows: tables,
    },
    SystemRelation {
        oid: 12006,
        schema: "pg_catalog",
        name: "pg_views",
        columns: "schemaname name, viewname name, viewowner name, definition text",
        rows: views,
    },
    SystemRelation {
        oid: 12007,
        schema: "pg_catalog",
        name: "pg_matviews",
        columns: "schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, \
                  ispopulated bool, definition text",
        rows: materialized_views,
    },
];

fn tables(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        let is_table = match &object.kind {
            ObjectKind::Table { .. } => true,
            ObjectKind::SystemRelation { .. } => {
                super::relation(object.id).is_some_and(|relation| relation.kind == 'r')
            }
            _ => false,
        };
        if is_table {
            let has_index = object.relation_schema().is_some_and(|schema| schema.primary_key.is_some());
            rows.push(vec![
                text(&object.schema),
                text(&object.name),
                text(OWNER_NAME),
                Value::Null,
                Value::Bool(has_index),
                Value::Bool(false),
                Value::Bool(false),
                Value::Bool(false),
            ]);
        }
    }
    rows
}

fn views(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        if let ObjectKind::View { .. } = &object.kind {
            let query = view_query(object, &snapshot.catalog).map_or(Value::Null, text);
            rows.push(vec![text(&object.schema), text(&object.name), text(OWNER_NAME), query]);
        }
    }
    rows
}

fn materialized_views(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        if let ObjectKind::MaterializedView { .. } = &object.kind {
            let indexes = snapshot.catalog.dependents(object.id);
            let has_index = indexes.iter().any(|index| matches!(index.kind, ObjectKind::Index { .. }));
            rows.push(vec![
                text(&object.schema),
                text(&object.name),
                text(OWNER_NAME),
                Value::Null,
                Value::Bool(has_index),
                Value::Bool(true),
                view_query(object, &snapshot.catalog).map_or(Value::Null, text),
            ]);
        }
    }
    rows
}
