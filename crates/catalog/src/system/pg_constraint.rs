//! `pg_constraint`: keys, checks and references.

use super::{Snapshot, SystemRelation, Value, schema_oid, text};
use crate::{Catalog, Constraint, ConstraintKind, ForeignKey, Object, ObjectKind, ReferentialAction, Uniqueness};

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
    let catalog = &snapshot.catalog;
    catalog.objects().filter_map(|object| constraint(catalog, object)).collect()
}

/// What a constraint says, for the columns that differ between kinds.
#[derive(Default)]
struct Said<'a> {
    kind: &'static str,
    columns: &'a [usize],
    index: u32,
    foreign: Option<(&'a Object, &'a ForeignKey)>,
}

fn constraint(catalog: &Catalog, object: &Object) -> Option<Vec<Value>> {
    let (on, said) = match &object.kind {
        ObjectKind::Index { on, columns, uniqueness } if uniqueness.is_constraint() => {
            let kind = if *uniqueness == Uniqueness::PrimaryKey { "p" } else { "u" };
            (*on, Said { kind, columns, index: object.oid, ..Said::default() })
        }
        ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::Check { .. } }) => {
            (*table, Said { kind: "c", ..Said::default() })
        }
        ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::ForeignKey(key) }) => {
            let foreign = Some((&**catalog.get(key.referenced)?, key));
            let index = catalog.get(key.key)?.oid;
            (*table, Said { kind: "f", columns: &key.columns, index, foreign })
        }
        _ => return None,
    };
    let table = catalog.get(on)?;
    let numbers = |relation: &Object, columns: &[usize]| {
        Value::Ints(columns.iter().map(|column| relation.column_number(*column) as i64).collect())
    };
    let action =
        |action: fn(&ForeignKey) -> ReferentialAction| text(said.foreign.map_or(" ", |(_, key)| action(key).code()));
    Some(vec![
        Value::Oid(object.oid),
        text(&object.name),
        Value::Oid(schema_oid(catalog, &table.schema)),
        text(said.kind),
        Value::Bool(said.foreign.is_some_and(|(_, key)| key.deferrable)),
        Value::Bool(said.foreign.is_some_and(|(_, key)| key.initially_deferred)),
        Value::Bool(true),
        Value::Oid(table.oid),
        Value::Oid(0),
        Value::Oid(said.index),
        Value::Oid(0),
        Value::Oid(said.foreign.map_or(0, |(referenced, _)| referenced.oid)),
        action(|key| key.on_update),
        action(|key| key.on_delete),
        text(said.foreign.map_or(" ", |(_, key)| if key.match_full { "f" } else { "s" })),
        Value::Bool(true),
        Value::Int(0),
        Value::Bool(said.kind != "c"),
        if said.kind == "c" { check_columns(object, table) } else { numbers(table, said.columns) },
        said.foreign.map_or(Value::Null, |(referenced, key)| numbers(referenced, &key.referenced_columns)),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        match &object.kind {
            ObjectKind::Constraint(Constraint { kind: ConstraintKind::Check { expression }, .. }) => text(expression),
            _ => Value::Null,
        },
    ])
}

/// The columns that a CHECK names: those whose names stand in its text as words.
fn check_columns(object: &Object, table: &Object) -> Value {
    let ObjectKind::Constraint(Constraint { kind: ConstraintKind::Check { expression }, .. }) = &object.kind else {
        return Value::Null;
    };
    let words: Vec<&str> = expression.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let columns = table.relation_schema().map_or(&[][..], |schema| &schema.columns);
    let named = columns.iter().enumerate().filter(|(_, column)| words.contains(&column.name.as_str()));
    Value::Ints(named.map(|(index, _)| table.column_number(index) as i64).collect())
}
