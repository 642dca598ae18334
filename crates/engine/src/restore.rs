//! A restart: every stored object is bound and planned again from its text, tables get their rows back.
//!
//! Objects come in the order of their ids, so each finds what it was made from. Views recompute from tables and sources;
//! reads of them wait until they have caught up, those over sources until what the sources hold has been read again.

use std::sync::Arc;

use arrow::datatypes::DataType;
use catalog::{Object, ObjectKind};
use repr::{Lane, ObjectId, PgError};
use sql::bind::BindContext;

use crate::dataflows::install;
use crate::ddl::{object_of, plans_of};
use crate::engine::Shared;
use crate::event_time::TableTime;

/// Brings everything stored back. Errors: the first object that cannot be made, by name.
pub(crate) fn restore(shared: &Shared) -> Result<(), PgError> {
    let objects = shared.storage.objects()?;
    if let Some(last) = objects.last() {
        shared.reserve_ids(ObjectId(last.id));
    }
    for stored in objects {
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

fn restore_object(shared: &Shared, stored: &storage::StoredObject) -> Result<(), PgError> {
    let catalog = shared.catalog();
    let mut statements = sql::parse(&stored.sql)?;
    let statement = statements.pop().ok_or_else(|| PgError::internal("its statement is empty"))?;
    let bound = sql::bind(&statement, &BindContext::new(&catalog))?;
    let id = ObjectId(stored.id);
    let object = object_of(&bound, id, &stored.sql).ok_or_else(|| PgError::internal("it is not a CREATE statement"))?;
    // An index without a name of its own was given one when it was made.
    let object = Object { name: stored.name.clone(), schema: stored.schema.clone(), ..object };
    let mut next = (*catalog).clone();
    next.insert(object.clone())?;
    let plans = plans_of(shared, &catalog, &object, &bound)?;
    install(shared, &next, id, plans)?;
    *shared.catalog.write() = Arc::new(next);
    if let ObjectKind::Table { schema, options } = &object.kind {
        let types: Vec<DataType> = schema.columns.iter().map(|column| column.sql_type.arrow()).collect();
        let rows = shared.storage.load_table(id, &types)?;
        if !rows.counts.is_empty() {
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
        }
    }
    Ok(())
}
