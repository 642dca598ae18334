//! SHOW.

use catalog::{Catalog, Object};
use repr::{ObjectId, PgError, RelationSchema, SqlState};
use sql::parse::Kind;

use crate::read::stream_of;
use crate::response::{Response, RowsTag};
use crate::session::Session;
use crate::settings::Settings;
use crate::statement::{text_columns, text_rows};

fn answer(schema: RelationSchema, rows: &[Vec<Option<String>>]) -> Result<Response, PgError> {
    let batch = text_rows(&schema, rows)?;
    Ok(Response::Rows { schema, rows: stream_of(vec![batch]), tag: RowsTag::Show })
}

pub(super) fn objects_schema(kind: Kind) -> RelationSchema {
    match kind {
        Kind::Source => text_columns(&["name", "connector", "format"]),
        Kind::Index => text_columns(&["name", "on", "columns"]),
        Kind::Table | Kind::Connection | Kind::View | Kind::MaterializedView | Kind::Sequence | Kind::Schema => {
            text_columns(&["name"])
        }
    }
}

pub(super) fn objects(_: &Session, catalog: &Catalog, kind: Kind) -> Result<Response, PgError> {
    let mut found: Vec<&Object> = catalog
        .objects()
        .map(|object| &**object)
        .filter(|object| object.id.0 >= catalog::FIRST_USER_ID && object.kind_name() == kind.name())
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |object: &Object| -> Vec<Option<String>> {
        let mut row = vec![Some(object.name.clone())];
        match &object.kind {
            catalog::ObjectKind::Source { description } => {
                row.extend([Some(description.connector.clone()), description.format.clone()]);
            }
            catalog::ObjectKind::Index { on, columns, .. } => {
                let relation = catalog.get(*on);
                let schema = relation.and_then(|relation| relation.relation_schema());
                let names = schema.map(|schema| {
                    let names = columns.iter().filter_map(|index| schema.columns.get(*index));
                    names.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
                });
                row.extend([relation.map(|relation| relation.name.clone()), names]);
            }
            _ => {}
        }
        row
    };
    answer(objects_schema(kind), &found.into_iter().map(row).collect::<Vec<_>>())
}

pub(super) fn columns_schema() -> RelationSchema {
    text_columns(&["name", "type", "nullable", "key"])
}

pub(super) fn columns(catalog: &Catalog, relation: ObjectId) -> Result<Response, PgError> {
    let object = get(catalog, relation)?;
    let schema = object
        .relation_schema()
        .ok_or_else(|| PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" has no columns", object.name)))?;
    let yes_or_no = |yes: bool| Some(if yes { "yes" } else { "no" }.to_string());
    let rows: Vec<Vec<Option<String>>> = schema
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let in_key = schema.primary_key.as_ref().is_some_and(|key| key.contains(&index));
            let type_name = sql::functions::catalog::format_type(&column.sql_type, column.typmod);
            vec![Some(column.name.clone()), Some(type_name), yes_or_no(column.nullable), yes_or_no(in_key)]
        })
        .collect();
    answer(columns_schema(), &rows)
}

pub(super) fn create_schema() -> RelationSchema {
    text_columns(&["name", "create_sql"])
}

pub(super) fn create(catalog: &Catalog, id: ObjectId) -> Result<Response, PgError> {
    let object = get(catalog, id)?;
    answer(
        create_schema(),
        &[vec![Some(object.name.clone()), Some(catalog::definition::create_statement(object, catalog))]],
    )
}

pub(super) fn setting_schema(name: Option<&str>) -> RelationSchema {
    match name {
        Some(name) => text_columns(&[Settings::spelling(name).as_str()]),
        None => text_columns(&["name", "setting", "description"]),
    }
}

pub(super) fn setting(session: &Session, name: Option<&str>) -> Result<Response, PgError> {
    let schema = setting_schema(name);
    match name {
        Some(name) => answer(schema, &[vec![Some(session.settings.show(name)?)]]),
        None => {
            let rows = session.settings.rows().into_iter();
            let rows = rows.map(|row| vec![Some(row.name), Some(row.value), Some(row.description)]);
            answer(schema, &rows.collect::<Vec<_>>())
        }
    }
}

fn get(catalog: &Catalog, id: ObjectId) -> Result<&Object, PgError> {
    catalog
        .get(id)
        .map(|object| &**object)
        .ok_or_else(|| PgError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {id} does not exist")))
}
