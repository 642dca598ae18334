//! A restart: every stored object is bound and planned again from its text, tables get their rows back.
//!
//! Objects come in the order of their ids, so each finds what it was made from; sequences come last, because they name the
//! tables they go with. Views recompute from tables and sources; reads of them wait until they have caught up, those over
//! sources until what the sources hold has been read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use catalog::{Catalog, Object, ObjectKind};
use repr::{Lane, ObjectId, PgError};
use sql::BoundStatement;
use sql::bind::{BindContext, BoundQuery};
use sql::statement::{Step, alter, depend_on_schema};
use storage::StoredObject;

use crate::dataflows::install;
use crate::ddl::{object_of, plans_of, stored_names, view_query};
use crate::engine::Shared;
use crate::event_time::TableTime;

/// Brings everything stored back. Errors: the first object that cannot be made, by name.
pub(crate) fn restore(shared: &Shared) -> Result<(), PgError> {
    let objects = shared.storage.objects()?;
    if let Some(last) = objects.last() {
        shared.reserve_ids(ObjectId(last.id));
    }
    let (sequences, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.kind == "sequence");
    for stored in others.into_iter().chain(sequences) {
        let name = stored.name.clone();
        restore_object(shared, &stored).map_err(|mut error| {
            error.message = format!("\"{name}\" cannot be restored: {}", error.message);
            error
        })?;
    }
    shared.runtime.tick();
    shared.readers.release();
    Ok(())
}

fn restore_object(shared: &Shared, stored: &StoredObject) -> Result<(), PgError> {
    let catalog = shared.catalog();
    let (object, query) = object_from(&catalog, stored)?;
    let id = object.id;
    let mut next = (*catalog).clone();
    next.insert(object.clone())?;
    let plans = plans_of(shared, &catalog, &object, query.as_ref())?;
    install(shared, &next, id, plans)?;
    *shared.catalog.write() = Arc::new(next);
    match object.kind {
        ObjectKind::Table { .. } => load(shared, &object),
        _ => Ok(()),
    }
}

/// The object that `stored` describes, with a view's query.
fn object_from(catalog: &Catalog, stored: &StoredObject) -> Result<(Object, Option<BoundQuery>), PgError> {
    let names = stored_names(stored)?;
    let statement = sql::parse(&stored.sql)?.pop().ok_or_else(|| PgError::internal("its statement is empty"))?;
    let mut context = BindContext::new(catalog);
    context.names = &names;
    // A view's own name is qualified only if it was said so.
    context.search_path.schemas = vec![stored.schema.clone()];
    let bound = sql::bind(&statement, &context)?;
    let made = match &bound {
        BoundStatement::Define { steps, .. } => made_by(steps, &context)?,
        other => object_of(other, &stored.sql),
    };
    let made = made.ok_or_else(|| PgError::internal("it is not a CREATE statement"))?;
    let names = if names.is_empty() { made.names.clone() } else { names.clone() };
    let mut object = Object {
        id: ObjectId(stored.id),
        oid: stored.oid,
        schema: stored.schema.clone(),
        name: stored.name.clone(),
        names,
        comments: BTreeMap::from_iter(stored.comments.clone()),
        ..made
    };
    if let ObjectKind::Table { details, .. } = &mut object.kind {
        for (detail, number) in details.iter_mut().zip(&stored.column_numbers) {
            detail.number = *number;
        }
    }
    depend_on_schema(&mut object, "", &context);
    let query = match &object.kind {
        ObjectKind::View { .. } | ObjectKind::MaterializedView { .. } => Some(view_query(catalog, &object)?),
        _ => None,
    };
    Ok((object, query))
}

/// The object that the steps of its statement make: its constraints and keys are stored by themselves.
fn made_by(steps: &[Step], context: &BindContext) -> Result<Option<Object>, PgError> {
    for step in steps {
        match step {
            Step::Create(object) => return Ok(Some((**object).clone())),
            Step::Alter(alter, index) => {
                let steps = alter::steps(alter, *index, context)?;
                if let Some(object) = made_by(&steps, context)? {
                    return Ok(Some(object));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Brings a table's rows back.
fn load(shared: &Shared, object: &Object) -> Result<(), PgError> {
    let ObjectKind::Table { schema, options, .. } = &object.kind else { return Ok(()) };
    let id = object.id;
    let types: Vec<DataType> = schema.columns.iter().map(|column| column.sql_type.arrow()).collect();
    let rows = shared.storage.load_table(id, &types)?;
    if rows.counts.is_empty() {
        return Ok(());
    }
    let row_count = rows.counts.len();
    let counts = Lane::Values(rows.counts).compress();
    shared.key_filters.add(id, schema, &rows.columns, &counts);
    let latest = match &options.watermark {
        Some(watermark) => watermark.event_times(&rows.columns)?.iter().flatten().max(),
        None => None,
    };
    shared.runtime.append(id, rows.columns, row_count, counts, None);
    if let (Some(watermark), Some(latest)) = (&options.watermark, latest) {
        shared.table_times.set(id, TableTime { latest: Some(latest), late_rows: 0 });
        shared.runtime.advance_watermark(id, watermark.behind(latest));
    }
    Ok(())
}
