//! `pg_attribute`: every column of every relation and index.

use repr::{ColumnSchema, SqlType};

use super::pg_class::relation_kind;
use super::{Snapshot, SystemRelation, Value, postgres, text};
use crate::{ColumnDetail, Generation, ObjectKind};

pub(super) const RELATIONS: &[SystemRelation] = &[SystemRelation {
    oid: 1249,
    schema: "pg_catalog",
    name: "pg_attribute",
    columns: "attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, attndims int4, \
              attcacheoff int4, atttypmod int4, attbyval bool, attalign text, attstorage text, attcompression text, \
              attnotnull bool, atthasdef bool, atthasmissing bool, attidentity text, attgenerated text, \
              attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, attacl _text, attoptions _text, \
              attfdwoptions _text, attmissingval text",
    rows: attributes,
}];

fn attributes(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let mut rows = Vec::new();
    for object in catalog.objects() {
        if relation_kind(object).is_none() {
            continue;
        }
        match &object.kind {
            ObjectKind::Index { on, columns, .. } => {
                let Some(schema) = catalog.get(*on).and_then(|relation| relation.relation_schema()) else { continue };
                for (number, column) in columns.iter().filter_map(|index| schema.columns.get(*index)).enumerate() {
                    let mut row = attribute(object.oid, number as i16 + 1, column);
                    row[13] = Value::Bool(false);
                    rows.push(row);
                }
            }
            _ => {
                let columns = object.relation_schema().into_iter().flat_map(|schema| &schema.columns);
                let system = super::relation(object.id);
                rows.extend(columns.enumerate().map(|(index, column)| {
                    let mut row = attribute(object.oid, object.column_number(index), column);
                    if let Some(type_oid) = system.and_then(|relation| relation.column_type(index)) {
                        of_catalog_type(&mut row, type_oid);
                    }
                    match &object.kind {
                        ObjectKind::Table { details, .. } => describe(&mut row, &details[index]),
                        ObjectKind::SystemRelation { .. } | ObjectKind::Sequence(_) => {}
                        // Only tables promise it in PostgreSQL.
                        _ => row[13] = Value::Bool(false),
                    }
                    row
                }));
            }
        }
    }
    rows
}

/// What a table says of a column beside name and type.
fn describe(row: &mut [Value], detail: &ColumnDetail) {
    row[14] = Value::Bool(detail.default.is_some() && !detail.generation.is_identity());
    row[16] = text(match detail.generation {
        Generation::IdentityAlways => "a",
        Generation::IdentityByDefault => "d",
        _ => "",
    });
    row[17] = text(if detail.generation == Generation::Stored { "s" } else { "" });
}

fn attribute(relation: u32, number: i16, column: &ColumnSchema) -> Vec<Value> {
    let is_array = matches!(column.sql_type, SqlType::Array(_));
    let size_bytes = if is_array { -1 } else { column.sql_type.info().size_bytes };
    let of_type =
        |name: &str, otherwise: &'static str| postgres::of_type(column.sql_type.oid(), name).unwrap_or(otherwise);
    vec![
        Value::Oid(relation),
        text(&column.name),
        Value::Oid(column.sql_type.oid()),
        Value::Int(-1),
        Value::Int(size_bytes as i64),
        Value::Int(number as i64),
        Value::Int(is_array as i64),
        Value::Int(-1),
        Value::Int(column.typmod as i64),
        text(of_type("typbyval", "f")),
        text(of_type("typalign", "i")),
        text(of_type("typstorage", "p")),
        text(""),
        Value::Bool(!column.nullable),
        Value::Bool(false),
        Value::Bool(false),
        text(""),
        text(""),
        Value::Bool(false),
        Value::Bool(true),
        Value::Int(0),
        Value::Oid(collation(&column.sql_type)),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}

/// What `pg_type` says of a type that a query's columns do not have: that of a column of PostgreSQL's catalogs.
fn of_catalog_type(row: &mut [Value], type_oid: u32) {
    row[2] = Value::Oid(type_oid);
    for (index, column) in [(4, "typlen"), (9, "typbyval"), (10, "typalign"), (11, "typstorage"), (21, "typcollation")]
    {
        row[index] = postgres::of_type(type_oid, column).map_or(Value::Null, text);
    }
    // The catalogs' own texts are ordered by their bytes.
    if postgres::of_type(type_oid, "typcollation").is_some_and(|collation| collation != "0") {
        row[21] = Value::Oid(950);
    }
}

/// `pg_collation.oid` of a type: `default` where it has one.
pub(super) fn collation(sql_type: &SqlType) -> u32 {
    match sql_type {
        SqlType::Array(element) => collation(element),
        SqlType::Text | SqlType::Varchar | SqlType::Bpchar | SqlType::PgNodeTree => 100,
        SqlType::Name => 950,
        _ => 0,
    }
}
