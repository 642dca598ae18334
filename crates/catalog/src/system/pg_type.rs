//! `pg_type`: the type table of `repr` and the arrays over it.

use repr::types::{TYPES, TypeInfo};

use super::pg_attribute::collation;
use super::{OWNER_OID, PG_CATALOG_OID, Snapshot, SystemRelation, Value, text};

pub(super) const RELATIONS: &[SystemRelation] = &[SystemRelation {
    oid: 1247,
    schema: "pg_catalog",
    name: "pg_type",
    columns: "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype text, \
              typcategory text, typispreferred bool, typisdefined bool, typdelim text, typrelid oid, \
              typsubscript text, typelem oid, typarray oid, typinput text, typoutput text, typreceive text, \
              typsend text, typmodin text, typmodout text, typanalyze text, typalign text, typstorage text, \
              typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid, \
              typdefaultbin text, typdefault text, typacl _text",
    rows: types,
}];

fn types(_: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for info in TYPES {
        let kind = if info.category == 'X' { "p" } else { "b" };
        rows.push(row(info, info.oid, info.name.to_string(), info.size_bytes, kind, info.category, 0, info.array_oid));
        if info.array_oid != 0 {
            rows.push(row(info, info.array_oid, format!("_{}", info.name), -1, "b", 'A', info.oid, 0));
        }
    }
    rows
}

fn row(
    info: &TypeInfo,
    oid: u32,
    name: String,
    size_bytes: i16,
    kind: &str,
    category: char,
    element: u32,
    array: u32,
) -> Vec<Value> {
    // PostgreSQL's older types say `int4in`, the newer ones `uuid_in`: drivers tell arrays by `array_in`.
    let function = |direction: &str| match element {
        0 if matches!(
            info.name,
            "date" | "time" | "timestamp" | "timestamptz" | "interval" | "numeric" | "uuid" | "json" | "jsonb"
        ) =>
        {
            text(format!("{}_{direction}", info.name))
        }
        0 => text(format!("{}{direction}", info.name)),
        _ => text(format!("array_{direction}")),
    };
    let preferred = matches!(info.name, "bool" | "text" | "float8" | "oid" | "timestamptz" | "interval");
    vec![
        Value::Oid(oid),
        text(name),
        Value::Oid(PG_CATALOG_OID),
        Value::Oid(OWNER_OID),
        Value::Int(size_bytes as i64),
        Value::Bool((1..=8).contains(&size_bytes)),
        text(kind),
        text(category.to_string()),
        Value::Bool(element == 0 && preferred),
        Value::Bool(true),
        text(","),
        Value::Oid(0),
        text(if element == 0 { "-" } else { "array_subscript_handler" }),
        Value::Oid(element),
        Value::Oid(array),
        function("in"),
        function("out"),
        function("recv"),
        function("send"),
        text("-"),
        text("-"),
        text("-"),
        text(if size_bytes == 8 { "d" } else { "i" }),
        text(if size_bytes == -1 { "x" } else { "p" }),
        Value::Bool(false),
        Value::Oid(0),
        Value::Int(-1),
        Value::Int(0),
        Value::Oid(collation(&info.sql_type)),
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}
