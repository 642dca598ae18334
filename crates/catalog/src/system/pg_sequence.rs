//! `pg_sequence` and `pg_sequences`: what sequences are declared as and where they stand.

use super::{OWNER_NAME, Snapshot, SystemRelation, Value, text};
use crate::{Object, ObjectKind, Sequence};

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 2224,
        schema: "pg_catalog",
        name: "pg_sequence",
        columns: "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, \
                  seqcache int8, seqcycle bool",
        rows: sequences,
    },
    SystemRelation {
        oid: 12011,
        schema: "pg_catalog",
        name: "pg_sequences",
        columns: "schemaname name, sequencename name, sequenceowner name, data_type regtype, start_value int8, \
                  min_value int8, max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8",
        rows: sequence_values,
    },
    SystemRelation {
        oid: 13210,
        schema: "information_schema",
        name: "sequences",
        columns: "sequence_catalog name, sequence_schema name, sequence_name name, data_type varchar, \
                  numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, start_value varchar, \
                  minimum_value varchar, maximum_value varchar, increment varchar, cycle_option varchar",
        rows: schema_sequences,
    },
];

fn all(snapshot: &Snapshot) -> impl Iterator<Item = (&Object, &Sequence)> {
    snapshot.catalog.objects().filter_map(|object| match &object.kind {
        ObjectKind::Sequence(sequence) => Some((&**object, sequence)),
        _ => None,
    })
}

fn sequences(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |(object, sequence): (&Object, &Sequence)| {
        vec![
            Value::Oid(object.oid),
            Value::Oid(sequence.data_type.oid()),
            Value::Int(sequence.start),
            Value::Int(sequence.increment),
            Value::Int(sequence.max),
            Value::Int(sequence.min),
            Value::Int(sequence.cache),
            Value::Bool(sequence.cycle),
        ]
    };
    all(snapshot).map(row).collect()
}

/// Whether a column is generated from it: such a sequence is the column's own, and none of the schema's.
fn is_identity(snapshot: &Snapshot, sequence: &Sequence) -> bool {
    let owner = sequence.owned_by.and_then(|(table, number)| Some((snapshot.catalog.get(table)?, number)));
    owner.is_some_and(|(table, number)| super::pg_depend::is_identity(table, number))
}

fn sequence_values(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |(object, sequence): (&Object, &Sequence)| {
        let position = snapshot.sequences.as_ref().map(|access| access.position(object.oid, sequence));
        let last = position.filter(|position| position.is_called).map(|position| position.last_value);
        vec![
            text(&object.schema),
            text(&object.name),
            text(OWNER_NAME),
            Value::Oid(sequence.data_type.oid()),
            Value::Int(sequence.start),
            Value::Int(sequence.min),
            Value::Int(sequence.max),
            Value::Int(sequence.increment),
            Value::Bool(sequence.cycle),
            Value::Int(sequence.cache),
            last.map_or(Value::Null, Value::Int),
        ]
    };
    all(snapshot).map(row).collect()
}

fn schema_sequences(snapshot: &Snapshot) -> Vec<Vec<Value>> {
    let row = |(object, sequence): (&Object, &Sequence)| {
        let bits = sequence.data_type.info().size_bytes as i64 * 8;
        vec![
            text(&snapshot.database),
            text(&object.schema),
            text(&object.name),
            text(sequence.data_type.sql_name()),
            Value::Int(bits),
            Value::Int(2),
            Value::Int(0),
            text(sequence.start.to_string()),
            text(sequence.min.to_string()),
            text(sequence.max.to_string()),
            text(sequence.increment.to_string()),
            text(if sequence.cycle { "YES" } else { "NO" }),
        ]
    };
    all(snapshot).filter(|(_, sequence)| !is_identity(snapshot, sequence)).map(row).collect()
}
