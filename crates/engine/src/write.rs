//! Table writes: checked, logged, stamped, acknowledged, in that order.
//!
//! ```text
//! rows at the last closed time -> Change (columns, diffs) -> NOT NULL, primary key -> storage.append -> runtime.write
//!                                                                                          `-> sync before the answer
//! ```
//!
//! One write at a time, so what a statement read is still true when it is applied. Inside a transaction block nothing is
//! applied before COMMIT: changes wait in the session, and the block's own reads see them (`overlay`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::OwnedRow;
use catalog::{Catalog, Object, ObjectKind};
use dataflow::Write;
use repr::{Diff, Lane, LateRows, ObjectId, PgError, RelationSchema, SqlState, SqlType, Watermark};
use storage::TableWrite;

use crate::engine::Shared;
use crate::event_time::TableTime;
use crate::read::batch;
use crate::unique::{Keys, check_not_null, conflicts, duplicate_key};

/// Updates of one table.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) table: ObjectId,
    /// All of the table's columns.
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) diffs: Lane<Diff>,
}

impl Change {
    pub(crate) fn constant(table: ObjectId, columns: Vec<ArrayRef>, row_count: usize, diff: Diff) -> Change {
        Change { table, columns, diffs: Lane::Constant(diff, row_count) }
    }

    pub(crate) fn row_count(&self) -> usize {
        self.diffs.len()
    }

    /// The same change without some of its rows.
    pub(crate) fn without(&self, rows: &[usize]) -> Result<Change, PgError> {
        let mut keep = vec![true; self.row_count()];
        for row in rows {
            keep[*row] = false;
        }
        let diffs = (0..self.row_count()).filter(|row| keep[*row]).map(|row| self.diffs.get(row)).collect();
        let mask = BooleanArray::from(keep);
        let columns: Result<Vec<ArrayRef>, _> =
            self.columns.iter().map(|column| arrow::compute::filter(column, &mask)).collect();
        let columns = columns.map_err(|error| PgError::internal(error.to_string()))?;
        Ok(Change { table: self.table, columns, diffs: Lane::Values(diffs).compress() })
    }

    /// Old rows taken away, new rows added.
    pub(crate) fn replace(
        table: ObjectId,
        old: Vec<ArrayRef>,
        new: Vec<ArrayRef>,
        row_count: usize,
    ) -> Result<Change, PgError> {
        let columns: Result<Vec<ArrayRef>, _> =
            old.iter().zip(&new).map(|(old, new)| arrow::compute::concat(&[old.as_ref(), new.as_ref()])).collect();
        let columns = columns.map_err(|error| PgError::internal(error.to_string()))?;
        let mut diffs = vec![-1; row_count];
        diffs.resize(2 * row_count, 1);
        Ok(Change { table, columns, diffs: Lane::Values(diffs) })
    }
}

/// A table as a write needs it. Errors: `42P01` if it was dropped meanwhile.
pub(crate) fn table(catalog: &Catalog, id: ObjectId) -> Result<(Arc<Object>, RelationSchema), PgError> {
    let object = catalog.get(id).ok_or_else(|| gone(id))?;
    let schema = object.relation_schema().ok_or_else(|| gone(id))?;
    Ok((Arc::clone(object), schema.clone()))
}

fn gone(id: ObjectId) -> PgError {
    PgError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {id} does not exist"))
}

/// Errors: `23502` and `23505` if the table may not become what `change` makes of it after `pending`.
pub(crate) async fn check(
    shared: &Shared,
    object: &Object,
    schema: &RelationSchema,
    pending: &[Change],
    change: &Change,
) -> Result<(), PgError> {
    check_not_null(object, schema, change)?;
    match conflicts(shared, object, schema, pending, change).await?.first() {
        None => Ok(()),
        Some(row) => Err(duplicate_key(object, schema, change, *row)),
    }
}

/// Logs and applies changes at one time. The caller holds the write lock.
pub(crate) fn apply(shared: &Shared, changes: Vec<Change>) -> Result<(), PgError> {
    let catalog = shared.catalog();
    let (changes, times) = on_time(shared, &catalog, changes)?;
    let changes: Vec<Change> = changes.into_iter().filter(|change| change.row_count() > 0).collect();
    if changes.is_empty() {
        note_times(shared, times);
        return Ok(());
    }
    shared.check_running()?;
    for change in &changes {
        let schema = catalog.get(change.table).and_then(|object| object.relation_schema());
        let schema = schema.ok_or_else(|| gone(change.table))?;
        shared.key_filters.add(change.table, schema, &change.columns, &change.diffs);
    }
    let logged: Vec<TableWrite<'_>> = changes
        .iter()
        .map(|change| TableWrite { table: change.table, columns: &change.columns, diffs: &change.diffs })
        .collect();
    shared.storage.append(&logged)?;
    let mut versions = shared.table_versions.lock();
    for change in &changes {
        *versions.entry(change.table).or_default() += 1;
        shared.counters.rows_written.fetch_add(change.row_count() as u64, Ordering::Relaxed);
    }
    drop(versions);
    let writes = changes.into_iter().map(|change| Write {
        relation: change.table,
        row_count: change.diffs.len(),
        columns: change.columns,
        diffs: change.diffs,
    });
    shared.runtime.write(writes.collect(), note_times(shared, times));
    Ok(())
}

/// How event time goes on in tables with a watermark.
type Times = HashMap<ObjectId, (Watermark, TableTime)>;

/// Changes without rows that are late in a table that leaves them out, and the event times after them.
fn on_time(shared: &Shared, catalog: &Catalog, changes: Vec<Change>) -> Result<(Vec<Change>, Times), PgError> {
    let mut times = Times::new();
    let mut kept = Vec::with_capacity(changes.len());
    for change in changes {
        let watermark = match catalog.get(change.table).map(|object| &object.kind) {
            Some(ObjectKind::Table { options, .. }) => options.watermark,
            _ => None,
        };
        let Some(watermark) = watermark else {
            kept.push(change);
            continue;
        };
        let (_, time) = times.entry(change.table).or_insert_with(|| (watermark, shared.table_times.get(change.table)));
        let late = watermark.follow(&watermark.event_times(&change.columns)?, &mut time.latest);
        if watermark.late_rows == LateRows::Apply || late.is_empty() {
            kept.push(change);
        } else {
            time.late_rows += late.len() as u64;
            kept.push(change.without(&late)?);
        }
    }
    Ok((kept, times))
}

/// Remembers event times; the watermarks that they make.
fn note_times(shared: &Shared, times: Times) -> Vec<(ObjectId, i64)> {
    let mut watermarks = Vec::new();
    for (table, (watermark, time)) in times {
        shared.table_times.set(table, time);
        watermarks.extend(time.latest.map(|latest| (table, watermark.behind(latest))));
    }
    watermarks
}

/// `rows` of a table as they are after `pending`.
pub(crate) fn overlay(
    schema: &RelationSchema,
    arrow_schema: &SchemaRef,
    rows: Vec<RecordBatch>,
    pending: &[Change],
) -> Result<Vec<RecordBatch>, PgError> {
    let types: Vec<SqlType> = schema.columns.iter().map(|column| column.sql_type.clone()).collect();
    let keys = Keys::new(&types)?;
    let mut net: HashMap<OwnedRow, i64> = HashMap::new();
    for change in pending {
        for (row, key) in keys.of(&change.columns)?.into_iter().enumerate() {
            *net.entry(key).or_default() += change.diffs.get(row);
        }
    }
    let mut result = Vec::with_capacity(rows.len() + 1);
    for rows in rows {
        let mut keep = Vec::with_capacity(rows.num_rows());
        for key in keys.of(rows.columns())? {
            let taken = net.get_mut(&key).filter(|count| **count < 0);
            keep.push(taken.is_none());
            if let Some(count) = taken {
                *count += 1;
            }
        }
        let kept = arrow::compute::filter_record_batch(&rows, &BooleanArray::from(keep));
        result.push(kept.map_err(|error| PgError::internal(error.to_string()))?);
    }
    for change in pending {
        let mut keep = Vec::with_capacity(change.row_count());
        for (row, key) in keys.of(&change.columns)?.into_iter().enumerate() {
            let count = net.get_mut(&key).filter(|count| **count > 0 && change.diffs.get(row) > 0);
            keep.push(count.is_some());
            if let Some(count) = count {
                *count -= 1;
            }
        }
        let added = batch(arrow_schema, change.columns.clone(), change.row_count())?;
        let kept = arrow::compute::filter_record_batch(&added, &BooleanArray::from(keep));
        result.push(kept.map_err(|error| PgError::internal(error.to_string()))?);
    }
    Ok(result)
}
