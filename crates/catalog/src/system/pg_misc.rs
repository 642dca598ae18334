//! The small relations: settings, extensions, tablespaces.

use super::{OWNER_OID, PG_CATALOG_OID, Snapshot, SystemRelation, Value, postgres, text};

/// The release of pgvector whose type, operators and functions are here: some clients ask before they use them.
const VECTOR_VERSION: &str = "0.7.0";

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 1213,
        schema: "pg_catalog",
        name: "pg_tablespace",
        columns: "oid oid, spcname name, spcowner oid, spcacl _text, spcoptions _text",
        rows: |_| {
            let row = |(oid, name)| vec![Value::Oid(oid), text(name), Value::Oid(OWNER_OID), Value::Null, Value::Null];
            [(1663, "pg_default"), (1664, "pg_global")].map(row).to_vec()
        },
    },
    SystemRelation {
        oid: 3079,
        schema: "pg_catalog",
        name: "pg_extension",
        columns: "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text",
        rows: |_| {
            let (owner, schema) = (Value::Oid(OWNER_OID), Value::Oid(PG_CATALOG_OID));
            let row = |oid, name, version| {
                vec![Value::Oid(oid), text(name), owner.clone(), schema.clone(), Value::Bool(false), text(version)]
            };
            vec![row(13559, "plpgsql", "1.0"), row(9012, "vector", VECTOR_VERSION)]
        },
    },
    SystemRelation {
        oid: 12084,
        schema: "pg_catalog",
        name: "pg_available_extensions",
        columns: "name name, default_version text, installed_version text, comment text",
        rows: |_| {
            vec![
                vec![text("plpgsql"), text("1.0"), text("1.0"), text("PL/pgSQL procedural language")],
                vec![
                    text("vector"),
                    text(VECTOR_VERSION),
                    text(VECTOR_VERSION),
                    text("built in: vectors and their distances"),
                ],
            ]
        },
    },
    SystemRelation {
        oid: 12088,
        schema: "pg_catalog",
        name: "pg_available_extension_versions",
        columns: "name name, version text, installed bool, superuser bool, trusted bool, relocatable bool, schema name, \
                  comment text",
        rows: |_| {
            let flags = [true, true, true, false].map(Value::Bool);
            let row = [text("plpgsql"), text("1.0")].into_iter().chain(flags);
            vec![row.chain([text("pg_catalog"), text("PL/pgSQL procedural language")]).collect()]
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
        let said = |column: &str| postgres::setting(&setting.name, column).map_or(Value::Null, text);
        let or = |column: &str, otherwise: &str| match said(column) {
            Value::Null => text(otherwise),
            said => said,
        };
        let unit = postgres::setting(&setting.name, "unit");
        vec![
            text(&setting.name),
            text(in_units(&setting.value, unit)),
            said("unit"),
            or("category", "Customized Options"),
            text(&setting.description),
            Value::Null,
            or("context", "user"),
            or("vartype", "string"),
            text(if setting.value == setting.default { "default" } else { "session" }),
            said("min_val"),
            said("max_val"),
            said("enumvals"),
            text(in_units(&setting.default, unit)),
            text(in_units(&setting.default, unit)),
            Value::Null,
            Value::Null,
            Value::Bool(false),
        ]
    };
    snapshot.settings.iter().map(row).collect()
}

/// A size such as `4MB` as a number of the unit that the setting is in; anything else as it is.
fn in_units(value: &str, unit: Option<&str>) -> String {
    let bytes = |unit: &str| {
        Some(match unit {
            "B" => 1i64,
            "kB" => 1 << 10,
            "8kB" => 8 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            "TB" => 1 << 40,
            _ => return None,
        })
    };
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number = value[..digits].parse::<i64>().ok();
    match (number, bytes(value[digits..].trim()), unit.and_then(bytes)) {
        (Some(number), Some(written), Some(base)) => (number * written / base).to_string(),
        _ => value.to_string(),
    }
}
