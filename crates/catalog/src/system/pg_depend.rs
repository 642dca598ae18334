//! `pg_depend`: what goes, or stands in the way, when something is dropped; `pg_rewrite`: that a view is its query.

use super::{Snapshot, SystemRelation, Value, schema_oid, text};
use crate::{Catalog, Constraint, ConstraintKind, Object, ObjectKind};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 2608,
        schema: "pg_catalog",
        name: "pg_depend",
        columns: "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype text",
        rows: dependencies,
    },
    SystemRelation {
        oid: 2618,
        schema: "pg_catalog",
        name: "pg_rewrite",
        columns: "oid oid, rulename name, ev_class oid, ev_type text, ev_enabled text, is_instead bool",
        rows: rules,
    },
];

const PG_ATTRDEF: u32 = 2604;
const PG_CLASS: u32 = 1259;
const PG_CONSTRAINT: u32 = 2606;
const PG_NAMESPACE: u32 = 2615;
const PG_REWRITE: u32 = 2618;

/// A view's rule has this added to the view's OID as its own.
const RULE: u32 = 0x2000_0000;

/// One end of a dependency: the relation that has the object, the object, and a column of it.
type End = (u32, u32, i16);

fn rules(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let views = snapshot.catalog.objects().filter(|object| is_view(object));
    let row = |view: &std::sync::Arc<Object>| {
        vec![
            Value::Oid(view.oid + RULE),
            text("_RETURN"),
            Value::Oid(view.oid),
            text("1"),
            text("O"),
            Value::Bool(true),
        ]
    };
    views.map(row).collect()
}

fn is_view(object: &Object) -> bool {
    matches!(object.kind, ObjectKind::View { .. } | ObjectKind::MaterializedView { .. })
}

fn dependencies(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let mut rows = Vec::new();
    for object in catalog.objects().filter(|object| object.oid >= crate::FIRST_USER_ID) {
        for (from, to, kind) in of_object(catalog, object) {
            rows.push(vec![
                Value::Oid(from.0),
                Value::Oid(from.1),
                Value::Int(i64::from(from.2)),
                Value::Oid(to.0),
                Value::Oid(to.1),
                Value::Int(i64::from(to.2)),
                text(kind),
            ]);
        }
    }
    rows
}

/// What an object depends on: `n` stands in the way of a drop, `a` goes with it, `i` is a part of it.
fn of_object(catalog: &Catalog, object: &Object) -> Vec<(End, End, &'static str)> {
    let whole = (PG_CLASS, object.oid, 0);
    let columns_of = |table: &Object, columns: &[usize]| -> Vec<End> {
        columns.iter().map(|column| (PG_CLASS, table.oid, table.column_number(*column))).collect()
    };
    let mut found = Vec::new();
    match &object.kind {
        ObjectKind::Index { on, columns, uniqueness } => {
            let Some(table) = catalog.get(*on) else { return found };
            let from = if uniqueness.is_constraint() { (PG_CONSTRAINT, object.oid, 0) } else { whole };
            found.extend(columns_of(table, columns).into_iter().map(|column| (from, column, "a")));
            if uniqueness.is_constraint() {
                found.push((whole, from, "i"));
            }
        }
        ObjectKind::Constraint(Constraint { table, kind }) => {
            let Some(table) = catalog.get(*table) else { return found };
            let from = (PG_CONSTRAINT, object.oid, 0);
            match kind {
                ConstraintKind::Check { .. } => found.push((from, (PG_CLASS, table.oid, 0), "a")),
                ConstraintKind::ForeignKey(key) => {
                    found.extend(columns_of(table, &key.columns).into_iter().map(|column| (from, column, "a")));
                    if let Some(referenced) = catalog.get(key.referenced) {
                        let columns = columns_of(referenced, &key.referenced_columns);
                        found.extend(columns.into_iter().map(|column| (from, column, "n")));
                    }
                    if let Some(index) = catalog.get(key.key) {
                        found.push((from, (PG_CLASS, index.oid, 0), "n"));
                    }
                }
            }
        }
        ObjectKind::Sequence(sequence) => {
            found.push((whole, (PG_NAMESPACE, schema_oid(catalog, &object.schema), 0), "n"));
            if let Some((table, number)) = sequence.owned_by
                && let Some(table) = catalog.get(table)
            {
                let kind = if is_identity(table, number) { "i" } else { "a" };
                found.push((whole, (PG_CLASS, table.oid, number), kind));
            }
        }
        ObjectKind::Table { details, .. } => {
            found.push((whole, (PG_NAMESPACE, schema_oid(catalog, &object.schema), 0), "n"));
            let defaults = details.iter().filter(|detail| detail.default.is_some() && !detail.generation.is_identity());
            found.extend(defaults.map(|detail| {
                let default = super::pg_attrdef::default_oid(object, detail.number);
                ((PG_ATTRDEF, default, 0), (PG_CLASS, object.oid, detail.number), "a")
            }));
        }
        ObjectKind::View { .. } | ObjectKind::MaterializedView { .. } => {
            found.push((whole, (PG_NAMESPACE, schema_oid(catalog, &object.schema), 0), "n"));
            let rule = (PG_REWRITE, object.oid + RULE, 0);
            found.push((rule, whole, "i"));
            let relations = object.depends_on.iter().filter_map(|id| catalog.get(*id));
            found.extend(relations.map(|relation| (rule, (PG_CLASS, relation.oid, 0), "n")));
        }
        ObjectKind::Source { .. } => {
            found.push((whole, (PG_NAMESPACE, schema_oid(catalog, &object.schema), 0), "n"));
        }
        ObjectKind::Schema | ObjectKind::Connection { .. } | ObjectKind::SystemRelation { .. } => {}
    }
    found
}

/// Whether the column with this number is an identity column.
pub(super) fn is_identity(table: &Object, number: i16) -> bool {
    match &table.kind {
        ObjectKind::Table { details, .. } => {
            details.iter().any(|detail| detail.number == number && detail.generation.is_identity())
        }
        _ => false,
    }
}
