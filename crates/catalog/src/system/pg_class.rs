//! `pg_class`: every relation and index; `pg_namespace`: every schema.

use super::{OWNER_OID, Snapshot, SystemRelation, Value, schema_oid, schemas, text};
use crate::{ConstraintKind, Object, ObjectKind};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 1259,
        schema: "pg_catalog",
        name: "pg_class",
        columns: "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, \
                  relfilenode oid, reltablespace oid, relpages int4, reltuples float4, relallvisible int4, \
                  reltoastrelid oid, relhasindex bool, relisshared bool, relpersistence text, relkind text, \
                  relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool, \
                  relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident text, \
                  relispartition bool, relrewrite oid, relfrozenxid oid, relminmxid oid, relacl _text, \
                  reloptions _text, relpartbound text",
        rows: classes,
    },
    SystemRelation {
        oid: 2615,
        schema: "pg_catalog",
        name: "pg_namespace",
        columns: "oid oid, nspname name, nspowner oid, nspacl _text",
        rows: namespaces,
    },
];

/// `relkind`. A source is a foreign table: its rows come from outside.
pub(crate) fn relation_kind(object: &Object) -> Option<&'static str> {
    match &object.kind {
        ObjectKind::Table { .. } => Some("r"),
        ObjectKind::Source { .. } => Some("f"),
        ObjectKind::View { .. } => Some("v"),
        ObjectKind::MaterializedView { .. } => Some("m"),
        ObjectKind::Index { .. } => Some("i"),
        ObjectKind::SystemRelation { .. } => {
            Some(if super::relation(object.id).is_some_and(|relation| relation.kind == 'r') { "r" } else { "v" })
        }
        ObjectKind::Sequence(_) => Some("S"),
        ObjectKind::Schema | ObjectKind::Connection { .. } | ObjectKind::Constraint(_) => None,
    }
}

fn classes(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let mut rows = Vec::new();
    for object in catalog.objects() {
        let Some(kind) = relation_kind(object) else { continue };
        let column_count = match &object.kind {
            ObjectKind::Index { columns, .. } => columns.len(),
            _ => object.relation_schema().map_or(0, |schema| schema.columns.len()),
        };
        let has_index = catalog.indexes(object.id).next().is_some();
        let checks = catalog.constraints(object.id).filter(|(_, kind)| matches!(kind, ConstraintKind::Check { .. }));
        let mut row = class(object, schema_oid(catalog, &object.schema), kind, column_count, has_index);
        row[18] = Value::Int(checks.count() as i64);
        // PostgreSQL checks references by triggers on both tables; tools look for references only where there are triggers.
        let refers = catalog.constraints(object.id).any(|(_, kind)| matches!(kind, ConstraintKind::ForeignKey(_)));
        row[20] = Value::Bool(refers || catalog.references(object.id).next().is_some());
        rows.push(row);
    }
    rows
}

fn class(object: &Object, schema: u32, kind: &str, column_count: usize, has_index: bool) -> Vec<Value> {
    let access_method = match kind {
        "r" | "m" => 2,
        "i" => 403,
        _ => 0,
    };
    vec![
        Value::Oid(object.oid),
        text(&object.name),
        Value::Oid(schema),
        Value::Oid(0),
        Value::Oid(0),
        Value::Oid(OWNER_OID),
        Value::Oid(access_method),
        Value::Oid(0),
        Value::Oid(0),
        Value::Int(0),
        Value::Float(-1.0),
        Value::Int(0),
        Value::Oid(0),
        Value::Bool(has_index),
        Value::Bool(false),
        text(if object.is_temporary() { "t" } else { "p" }),
        text(kind),
        Value::Int(column_count as i64),
        Value::Int(0),
        Value::Bool(matches!(kind, "v" | "m")),
        Value::Bool(false),
        Value::Bool(false),
        Value::Bool(false),
        Value::Bool(false),
        Value::Bool(true),
        text(if matches!(kind, "r" | "m") && object.oid >= crate::FIRST_USER_ID { "d" } else { "n" }),
        Value::Bool(false),
        Value::Oid(0),
        Value::Oid(0),
        Value::Oid(0),
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}

fn namespaces(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |oid: u32, name: &str| vec![Value::Oid(oid), text(name), Value::Oid(OWNER_OID), Value::Null];
    let made = snapshot.catalog.objects().filter(|object| object.kind == ObjectKind::Schema);
    let made = made.map(|schema| row(schema.oid, &schema.name));
    schemas().into_iter().map(|(name, oid)| row(oid, name)).chain(made).collect()
}
