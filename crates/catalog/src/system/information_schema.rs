//! `information_schema`: the SQL standard's view of the same things.

mod constraints;
mod privileges;

use std::collections::HashMap;

use repr::{ColumnSchema, ObjectId, SqlType};

use super::{Snapshot, SystemRelation, Value, schemas, text};
use crate::definition::view_query;
use crate::{
    ColumnDetail, Constraint, ConstraintKind, ForeignKey, Generation, Object, ObjectKind, Sequence, Uniqueness,
};

pub(super) use constraints::RELATIONS as CONSTRAINTS;
pub(super) use privileges::RELATIONS as PRIVILEGES;

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 13201,
        schema: "information_schema",
        name: "tables",
        columns: "table_catalog name, table_schema name, table_name name, table_type varchar, \
                  self_referencing_column_name name, reference_generation varchar, user_defined_type_catalog name, \
                  user_defined_type_schema name, user_defined_type_name name, is_insertable_into varchar, \
                  is_typed varchar, commit_action varchar",
        rows: tables,
    },
    SystemRelation {
        oid: 13202,
        schema: "information_schema",
        name: "columns",
        columns: "table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4, \
                  column_default varchar, is_nullable varchar, data_type varchar, character_maximum_length int4, \
                  character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, \
                  numeric_scale int4, datetime_precision int4, collation_catalog name, collation_schema name, \
                  collation_name name, udt_catalog name, udt_schema name, udt_name name, dtd_identifier name, \
                  is_self_referencing varchar, is_identity varchar, identity_generation varchar, \
                  identity_start varchar, identity_increment varchar, identity_maximum varchar, \
                  identity_minimum varchar, identity_cycle varchar, is_generated varchar, \
                  generation_expression varchar, is_updatable varchar",
        rows: columns,
    },
    SystemRelation {
        oid: 13203,
        schema: "information_schema",
        name: "schemata",
        columns: "catalog_name name, schema_name name, schema_owner name, default_character_set_catalog name, \
                  default_character_set_schema name, default_character_set_name name, sql_path varchar",
        rows: |snapshot| {
            let made = snapshot.catalog.objects().filter(|object| object.kind == ObjectKind::Schema);
            let made = made.map(|schema| schema.name.clone());
            let row = |name: String| {
                vec![
                    text(&snapshot.database),
                    text(name),
                    text(super::OWNER_NAME),
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                ]
            };
            schemas().into_iter().map(|(name, _)| name.to_string()).chain(made).map(row).collect()
        },
    },
    SystemRelation {
        oid: 13204,
        schema: "information_schema",
        name: "views",
        columns: "table_catalog name, table_schema name, table_name name, view_definition varchar, \
                  check_option varchar, is_updatable varchar, is_insertable_into varchar, \
                  is_trigger_updatable varchar, is_trigger_deletable varchar, is_trigger_insertable_into varchar",
        rows: views,
    },
    SystemRelation {
        oid: 13205,
        schema: "information_schema",
        name: "table_constraints",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, \
                  table_schema name, table_name name, constraint_type varchar, is_deferrable varchar, \
                  initially_deferred varchar, enforced varchar, nulls_distinct varchar",
        rows: table_constraints,
    },
    SystemRelation {
        oid: 13206,
        schema: "information_schema",
        name: "key_column_usage",
        columns: "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, \
                  table_schema name, table_name name, column_name name, ordinal_position int4, \
                  position_in_unique_constraint int4",
        rows: key_column_usage,
    },
];

fn table_type(object: &Object) -> Option<&'static str> {
    match &object.kind {
        ObjectKind::Table { .. } if object.is_temporary() => Some("LOCAL TEMPORARY"),
        ObjectKind::Table { .. } | ObjectKind::MaterializedView { .. } => Some("BASE TABLE"),
        ObjectKind::Source { .. } => Some("FOREIGN"),
        ObjectKind::View { .. } => Some("VIEW"),
        ObjectKind::SystemRelation { .. } => {
            Some(if super::relation(object.id).is_some_and(|known| known.kind == 'r') { "BASE TABLE" } else { "VIEW" })
        }
        ObjectKind::Schema
        | ObjectKind::Connection { .. }
        | ObjectKind::Index { .. }
        | ObjectKind::Constraint(_)
        | ObjectKind::Sequence(_) => None,
    }
}

/// `YES` or `NO`.
fn yes_or_no(yes: bool) -> Value {
    text(if yes { "YES" } else { "NO" })
}

fn tables(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        // PostgreSQL leaves materialized views out; tools that look here would then not find what matters most.
        let Some(table_type) = table_type(object) else { continue };
        rows.push(vec![
            text(&snapshot.database),
            text(&object.schema),
            text(&object.name),
            text(table_type),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            yes_or_no(matches!(object.kind, ObjectKind::Table { .. })),
            text("NO"),
            Value::Null,
        ]);
    }
    rows
}

fn columns(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    let owned: HashMap<(ObjectId, i16), &Sequence> = snapshot
        .catalog
        .objects()
        .filter_map(|object| match &object.kind {
            ObjectKind::Sequence(sequence) => Some((sequence.owned_by?, sequence)),
            _ => None,
        })
        .collect();
    for object in snapshot.catalog.objects() {
        if table_type(object).is_none() {
            continue;
        }
        for (index, column) in object.relation_schema().into_iter().flat_map(|schema| &schema.columns).enumerate() {
            let sequence = owned.get(&(object.id, object.column_number(index))).copied();
            rows.push(column_row(snapshot, object, index, column, sequence));
        }
    }
    rows
}

fn column_row(
    snapshot: &Snapshot,
    object: &Object,
    index: usize,
    column: &ColumnSchema,
    sequence: Option<&Sequence>,
) -> Vec<Value> {
    let detail: Option<&ColumnDetail> = match &object.kind {
        ObjectKind::Table { details, .. } => details.get(index),
        _ => None,
    };
    let generation = detail.map(|detail| detail.generation).unwrap_or_default();
    let default = |wanted: bool| match detail.and_then(|detail| detail.default.as_ref()).filter(|_| wanted) {
        Some(default) => text(default),
        None => Value::Null,
    };
    let sequence = sequence.filter(|_| generation.is_identity());
    let of_sequence = |said: fn(&Sequence) -> i64| sequence.map_or(Value::Null, |known| text(said(known).to_string()));
    let is_array = matches!(column.sql_type, SqlType::Array(_));
    let data_type = if is_array { "ARRAY".to_string() } else { column.sql_type.sql_name() };
    let length = match column.sql_type {
        SqlType::Varchar | SqlType::Bpchar if column.typmod >= 4 => Value::Int(column.typmod as i64 - 4),
        _ => Value::Null,
    };
    // Four bytes at most a character, and a gigabyte where there is no limit.
    let octet_length = match (&column.sql_type, &length) {
        (SqlType::Varchar | SqlType::Bpchar, Value::Int(length)) => Value::Int(length * 4),
        (SqlType::Text | SqlType::Varchar | SqlType::Bpchar, _) => Value::Int(1 << 30),
        _ => Value::Null,
    };
    let (collation_schema, collation) = match column.sql_type {
        SqlType::Name => (text("pg_catalog"), text("C")),
        _ => (Value::Null, Value::Null),
    };
    let int = |value: Option<i64>| value.map_or(Value::Null, Value::Int);
    let (precision, radix, scale) = match column.sql_type {
        SqlType::Int2 => (Some(16), Some(2), Some(0)),
        SqlType::Int4 => (Some(32), Some(2), Some(0)),
        SqlType::Int8 => (Some(64), Some(2), Some(0)),
        SqlType::Float4 => (Some(24), Some(2), None),
        SqlType::Float8 => (Some(53), Some(2), None),
        SqlType::Numeric if column.typmod >= 4 => {
            let packed = column.typmod as i64 - 4;
            // The scale is signed, in eleven bits.
            (Some((packed >> 16) & 0xffff), Some(10), Some(((packed & 0x7ff) ^ 0x400) - 0x400))
        }
        SqlType::Numeric => (None, Some(10), None),
        _ => (None, None, None),
    };
    let datetime_precision = match column.sql_type {
        SqlType::Date => Some(0),
        SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz if column.typmod >= 0 => Some(column.typmod as i64),
        SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval => Some(6),
        _ => None,
    };
    vec![
        text(&snapshot.database),
        text(&object.schema),
        text(&object.name),
        text(&column.name),
        Value::Int(i64::from(object.column_number(index))),
        default(!generation.is_identity() && generation != Generation::Stored),
        yes_or_no(column.nullable),
        text(data_type),
        length,
        octet_length,
        int(precision),
        int(radix),
        int(scale),
        int(datetime_precision),
        if collation_schema.is_null() { Value::Null } else { text(&snapshot.database) },
        collation_schema,
        collation,
        text(&snapshot.database),
        text("pg_catalog"),
        text(column.sql_type.name()),
        text(object.column_number(index).to_string()),
        text("NO"),
        yes_or_no(generation.is_identity()),
        match generation {
            Generation::IdentityAlways => text("ALWAYS"),
            Generation::IdentityByDefault => text("BY DEFAULT"),
            _ => Value::Null,
        },
        of_sequence(|sequence| sequence.start),
        of_sequence(|sequence| sequence.increment),
        of_sequence(|sequence| sequence.max),
        of_sequence(|sequence| sequence.min),
        yes_or_no(sequence.is_some_and(|sequence| sequence.cycle)),
        text(if generation == Generation::Stored { "ALWAYS" } else { "NEVER" }),
        default(generation == Generation::Stored),
        yes_or_no(matches!(object.kind, ObjectKind::Table { .. })),
    ]
}

fn views(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for object in snapshot.catalog.objects() {
        if let ObjectKind::View { .. } = &object.kind {
            rows.push(vec![
                text(&snapshot.database),
                text(&object.schema),
                text(&object.name),
                view_query(object, &snapshot.catalog).map_or(Value::Null, text),
                text("NONE"),
                text("NO"),
                text("NO"),
                text("NO"),
                text("NO"),
                text("NO"),
            ]);
        }
    }
    rows
}

fn table_constraints(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let row = |object: &Object| {
        let (on, kind) = match &object.kind {
            ObjectKind::Index { on, uniqueness: Uniqueness::PrimaryKey, .. } => (on, "PRIMARY KEY"),
            ObjectKind::Index { on, uniqueness: Uniqueness::Constraint, .. } => (on, "UNIQUE"),
            ObjectKind::Constraint(constraint) => match constraint.kind {
                ConstraintKind::Check { .. } => (&constraint.table, "CHECK"),
                ConstraintKind::ForeignKey(_) => (&constraint.table, "FOREIGN KEY"),
            },
            _ => return None,
        };
        let (table, key) = (catalog.get(*on)?, foreign_key(object));
        Some(vec![
            text(&snapshot.database),
            text(&table.schema),
            text(&object.name),
            text(&snapshot.database),
            text(&table.schema),
            text(&table.name),
            text(kind),
            yes_or_no(key.is_some_and(|key| key.deferrable)),
            yes_or_no(key.is_some_and(|key| key.initially_deferred)),
            text("YES"),
            if kind == "UNIQUE" { text("YES") } else { Value::Null },
        ])
    };
    let declared = catalog.objects().filter_map(|object| row(object));
    let not_null = constraints::not_null(catalog).map(|(table, name, _)| {
        vec![
            text(&snapshot.database),
            text(&table.schema),
            text(name),
            text(&snapshot.database),
            text(&table.schema),
            text(&table.name),
            text("CHECK"),
            text("NO"),
            text("NO"),
            text("YES"),
            Value::Null,
        ]
    });
    declared.chain(not_null).collect()
}

fn foreign_key(object: &Object) -> Option<&ForeignKey> {
    match &object.kind {
        ObjectKind::Constraint(Constraint { kind: ConstraintKind::ForeignKey(key), .. }) => Some(key),
        _ => None,
    }
}

fn key_column_usage(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let catalog = &snapshot.catalog;
    let mut rows = Vec::new();
    for object in catalog.objects() {
        let (on, columns) = match &object.kind {
            ObjectKind::Index { on, columns, uniqueness } if uniqueness.is_constraint() => (on, columns),
            ObjectKind::Constraint(Constraint { table, kind: ConstraintKind::ForeignKey(key) }) => {
                (table, &key.columns)
            }
            _ => continue,
        };
        let Some(table) = catalog.get(*on) else { continue };
        let Some(schema) = table.relation_schema() else { continue };
        for (position, column) in columns.iter().enumerate() {
            let in_key = foreign_key(object).and_then(|key| {
                let ObjectKind::Index { columns, .. } = &catalog.get(key.key)?.kind else { return None };
                columns.iter().position(|column| *column == key.referenced_columns[position])
            });
            rows.push(vec![
                text(&snapshot.database),
                text(&table.schema),
                text(&object.name),
                text(&snapshot.database),
                text(&table.schema),
                text(&table.name),
                text(&schema.columns[*column].name),
                Value::Int(position as i64 + 1),
                in_key.map_or(Value::Null, |position| Value::Int(position as i64 + 1)),
            ]);
        }
    }
    rows
}
