//! The small relations: settings, access methods, collations, tablespaces.

use super::{OWNER_OID, PG_CATALOG_OID, Snapshot, SystemRelation, Value, text};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 2601,
        schema: "pg_catalog",
        name: "pg_am",
        columns: "oid oid, amname name, amhandler oid, amtype text",
        rows: |_| {
            vec![
                vec![Value::Oid(2), text("heap"), Value::Oid(3), text("t")],
                vec![Value::Oid(403), text("btree"), Value::Oid(330), text("i")],
            ]
        },
    },
    SystemRelation {
        oid: 3456,
        schema: "pg_catalog",
        name: "pg_collation",
        columns: "oid oid, collname name, collnamespace oid, collowner oid, collprovider text, \
                  collisdeterministic bool, collencoding int4, collcollate text, collctype text, colliculocale text, \
                  collversion text",
        rows: |_| {
            [(100, "default", "d"), (950, "C", "c"), (951, "POSIX", "c")]
                .into_iter()
                .map(|(oid, name, provider)| {
                    vec![
                        Value::Oid(oid),
                        text(name),
                        Value::Oid(PG_CATALOG_OID),
                        Value::Oid(OWNER_OID),
                        text(provider),
                        Value::Bool(true),
                        Value::Int(-1),
                        text("C"),
                        text("C"),
                        Value::Null,
                        Value::Null,
                    ]
                })
                .collect()
        },
    },
    SystemRelation {
        oid: 1213,
        schema: "pg_catalog",
        name: "pg_tablespace",
        columns: "oid oid, spcname name, spcowner oid, spcacl _text, spcoptions _text",
        rows: |_| vec![vec![Value::Oid(1663), text("pg_default"), Value::Oid(OWNER_OID), Value::Null, Value::Null]],
    },
    SystemRelation {
        oid: 2612,
        schema: "pg_catalog",
        name: "pg_language",
        columns: "oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, \
                  laninline oid, lanvalidator oid, lanacl _text",
        rows: |_| {
            [(12, "internal"), (14, "sql")]
                .into_iter()
                .map(|(oid, name)| {
                    vec![
                        Value::Oid(oid),
                        text(name),
                        Value::Oid(OWNER_OID),
                        Value::Bool(false),
                        Value::Bool(true),
                        Value::Oid(0),
                        Value::Oid(0),
                        Value::Oid(0),
                        Value::Null,
                    ]
                })
                .collect()
        },
    },
    SystemRelation {
        oid: 12004,
        schema: "pg_catalog",
        name: "pg_settings",
        columns: "name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, \
                  vartype text, source text, min_val text, max_val text, enumvals _text, boot_val text, \
                  reset_val text, sourcefile text, sourceline int4, pending_restart bool",
        rows: settings,
    },
];

fn settings(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |setting: &super::SettingRow| {
        vec![
            text(&setting.name),
            text(&setting.value),
            Value::Null,
            text("Tidewater"),
            text(&setting.description),
            Value::Null,
            text("user"),
            text("string"),
            text(if setting.value == setting.default { "default" } else { "session" }),
            Value::Null,
            Value::Null,
            Value::Null,
            text(&setting.default),
            text(&setting.default),
            Value::Null,
            Value::Null,
            Value::Bool(false),
        ]
    };
    snapshot.settings.iter().map(row).collect()
}
