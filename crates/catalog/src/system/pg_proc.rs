//! `pg_proc`: the functions by name. Their arguments are resolved by the binder and not listed.

use super::{OWNER_OID, PG_CATALOG_OID, Snapshot, SystemRelation, Value, text};

pub(super) const RELATIONS: &[SystemRelation] = &[SystemRelation {
    oid: 1255,
    schema: "pg_catalog",
    name: "pg_proc",
    columns: "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4, \
              provariadic oid, prosupport oid, prokind text, prosecdef bool, proleakproof bool, proisstrict bool, \
              proretset bool, provolatile text, proparallel text, pronargs int2, pronargdefaults int2, \
              prorettype oid, proargtypes _oid, proallargtypes _oid, proargmodes _text, proargnames _text, \
              proargdefaults text, protrftypes _oid, prosrc text, probin text, prosqlbody text, proconfig _text, \
              proacl _text",
    rows: functions,
}];

fn functions(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |(index, name): (usize, &String)| {
        vec![
            Value::Oid(14000 + index as u32),
            text(name),
            Value::Oid(PG_CATALOG_OID),
            Value::Oid(OWNER_OID),
            Value::Oid(12),
            Value::Float(1.0),
            Value::Float(0.0),
            Value::Oid(0),
            Value::Oid(0),
            text("f"),
            Value::Bool(false),
            Value::Bool(false),
            Value::Bool(true),
            Value::Bool(false),
            text("i"),
            text("s"),
            Value::Int(0),
            Value::Int(0),
            Value::Oid(0),
            Value::Oids(Vec::new()),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            text(name),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ]
    };
    snapshot.functions.iter().enumerate().map(row).collect()
}
