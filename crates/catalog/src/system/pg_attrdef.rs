//! `pg_attrdef`: the DEFAULT of each column that has one; `pg_description`: what COMMENT says.

use super::{Snapshot, SystemRelation, Value, text};
use crate::{Object, ObjectKind};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 2604,
        schema: "pg_catalog",
        name: "pg_attrdef",
        columns: "oid oid, adrelid oid, adnum int2, adbin text",
        rows: defaults,
    },
    SystemRelation {
        oid: 2609,
        schema: "pg_catalog",
        name: "pg_description",
        columns: "objoid oid, classoid oid, objsubid int4, description text",
        rows: descriptions,
    },
];

fn defaults(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        let ObjectKind::Table { details, .. } = &object.kind else { continue };
        for detail in details.iter().filter(|detail| !detail.generation.is_identity()) {
            if let Some(default) = &detail.default {
                let oid = default_oid(object, detail.number);
                rows.push(vec![
                    Value::Oid(oid),
                    Value::Oid(object.oid),
                    Value::Int(detail.number as i64),
                    text(default),
                ]);
            }
        }
    }
    rows
}

/// The OID of a column's default, of the table's and the column's numbers: nobody looks one up by it, but two have two.
pub(super) fn default_oid(table: &Object, number: i16) -> u32 {
    table.oid.wrapping_mul(2048).wrapping_add(number as u32)
}

/// The relation in which an object has its row: `pg_class`, `pg_constraint` or `pg_namespace`.
pub fn class_of(object: &Object) -> u32 {
    match &object.kind {
        ObjectKind::Schema => 2615,
        ObjectKind::Constraint(_) => 2606,
        _ => 1259,
    }
}

fn descriptions(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        for (number, comment) in &object.comments {
            rows.push(vec![
                Value::Oid(object.oid),
                Value::Oid(class_of(object)),
                Value::Int(*number as i64),
                text(comment),
            ]);
        }
    }
    rows
}
