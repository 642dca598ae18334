//! `tw_catalog`: what only a streaming database has. Errors, frontiers, arrangements, positions.

use repr::ObjectId;

use super::{Snapshot, SystemRelation, Value, text};
use crate::definition::create_statement;

pub(super) const RELATIONS: &[SystemRelation] = &[
    SystemRelation {
        oid: 15001,
        schema: "tw_catalog",
        name: "tw_objects",
        columns: "id oid, schema_name text, name text, kind text, definition text",
        rows: |snapshot| {
            let user = snapshot.catalog.objects().filter(|object| object.id.0 >= crate::FIRST_USER_ID);
            user.map(|object| {
                vec![
                    Value::Oid(object.oid),
                    text(&object.schema),
                    text(&object.name),
                    text(object.kind_name()),
                    text(create_statement(object, &snapshot.catalog)),
                ]
            })
            .collect()
        },
    },
    SystemRelation {
        oid: 15002,
        schema: "tw_catalog",
        name: "tw_errors",
        columns: "object_id oid, object_name text, location text, input text, state text, message text, \
                  since int8, count int8",
        rows: |snapshot| {
            let row = |error: &super::ErrorRow| {
                vec![
                    oid(snapshot, error.object),
                    name(snapshot, error.object),
                    text(&error.location),
                    text(&error.input),
                    text(&error.state),
                    text(&error.message),
                    error.since.map_or(Value::Null, |since| Value::Int(since as i64)),
                    Value::Int(error.count),
                ]
            };
            snapshot.errors.iter().map(row).collect()
        },
    },
    SystemRelation {
        oid: 15003,
        schema: "tw_catalog",
        name: "tw_frontiers",
        columns: "object_id oid, object_name text, frontier int8",
        rows: |snapshot| {
            let row = |frontier: &super::FrontierRow| {
                vec![
                    oid(snapshot, frontier.object),
                    text(&frontier.name),
                    frontier.frontier.map_or(Value::Null, |time| Value::Int(time as i64)),
                ]
            };
            snapshot.frontiers.iter().map(row).collect()
        },
    },
    SystemRelation {
        oid: 15004,
        schema: "tw_catalog",
        name: "tw_arrangements",
        columns: "object_id oid, object_name text, operator text, row_count int8, size_bytes int8",
        rows: |snapshot| {
            let row = |arrangement: &super::ArrangementRow| {
                vec![
                    oid(snapshot, arrangement.object),
                    text(&arrangement.name),
                    text(&arrangement.operator),
                    Value::Int(arrangement.row_count),
                    Value::Int(arrangement.size_bytes),
                ]
            };
            snapshot.arrangements.iter().map(row).collect()
        },
    },
    SystemRelation {
        oid: 15005,
        schema: "tw_catalog",
        name: "tw_sources",
        columns: "object_id oid, object_name text, part text, position int8, watermark text",
        rows: |snapshot| {
            let row = |source: &super::SourceRow| {
                vec![
                    oid(snapshot, source.object),
                    name(snapshot, source.object),
                    text(&source.part),
                    source.position.map_or(Value::Null, |position| Value::Int(position as i64)),
                    source.watermark.as_deref().map_or(Value::Null, text),
                ]
            };
            snapshot.sources.iter().map(row).collect()
        },
    },
];

/// What users know an object by; of an arrangement that objects share, its own number.
fn oid(snapshot: &Snapshot, id: ObjectId) -> Value {
    Value::Oid(snapshot.catalog.get(id).map_or(id.0, |object| object.oid))
}

/// NULL for what is not there any more.
fn name(snapshot: &Snapshot, id: ObjectId) -> Value {
    snapshot.catalog.get(id).map_or(Value::Null, |object| text(&object.name))
}
