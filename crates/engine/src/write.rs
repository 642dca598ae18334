//! Table writes: checked, logged, stamped, acknowledged, in that order.
//!
//! ```text
//! rows at the last closed time -> Change (columns, diffs) -> constraints (`rules`) -> storage.commit -> runtime.write
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
use dataflow::{PeekTarget, Write};
use repr::{Diff, Lane, LateRows, ObjectId, PgError, RelationSchema, SqlState, SqlType, Watermark};
use storage::{CatalogChange, TableWrite};

use crate::engine::Shared;
use crate::event_time::TableTime;
use crate::read::{batch, concat};
use crate::unique::Keys;

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

    /// The rows that it adds.
    pub(crate) fn added(&self) -> Result<Vec<ArrayRef>, PgError> {
        self.rows_where(|diff| diff > 0)
    }

    /// The rows that it takes away.
    pub(crate) fn removed(&self) -> Result<Vec<ArrayRef>, PgError> {
        self.rows_where(|diff| diff < 0)
    }

    fn rows_where(&self, wanted: impl Fn(Diff) -> bool) -> Result<Vec<ArrayRef>, PgError> {
        let rows: Vec<usize> = (0..self.row_count()).filter(|row| wanted(self.diffs.get(*row))).collect();
        if rows.len() == self.row_count() {
            return Ok(self.columns.clone());
        }
        crate::rules::take_rows(&self.columns, &rows)
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

/// What a transaction has written and not yet applied: before the statement under way, and by it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pending<'a> {
    pub(crate) before: &'a [Change],
    pub(crate) own: &'a [Change],
}

impl<'a> Pending<'a> {
    /// All of it in `changes`.
    pub(crate) fn all(changes: &'a [Change]) -> Pending<'a> {
        Pending { before: changes, own: &[] }
    }

    /// The changes of one table, in their order.
    pub(crate) fn of(self, table: ObjectId) -> impl Iterator<Item = &'a Change> {
        self.before.iter().chain(self.own).filter(move |change| change.table == table)
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

/// Logs and applies changes at one time, with what their transaction makes of the catalog: `stored` is logged with them, and
/// `publish` shows it before they are applied. The caller holds the write lock.
pub(crate) fn apply(
    shared: &Shared,
    catalog: &Catalog,
    changes: Vec<Change>,
    stored: &CatalogChange,
    publish: impl FnOnce(),
) -> Result<(), PgError> {
    // Those of a table that the transaction has dropped since are for nobody.
    let changes = changes.into_iter().filter(|change| catalog.get(change.table).is_some()).collect();
    let (changes, times) = on_time(shared, catalog, changes)?;
    let changes: Vec<Change> = changes.into_iter().filter(|change| change.row_count() > 0).collect();
    if changes.is_empty() && stored.is_empty() {
        note_times(shared, times);
        publish();
        return Ok(());
    }
    shared.check_running()?;
    let mut logged = Vec::with_capacity(changes.len());
    for change in &changes {
        let object = catalog.get(change.table).ok_or_else(|| gone(change.table))?;
        let schema = object.relation_schema().ok_or_else(|| gone(change.table))?;
        shared.key_filters.add(change.table, schema, &change.columns, &change.diffs);
        if !object.is_temporary() {
            logged.push(TableWrite { table: change.table, columns: &change.columns, diffs: &change.diffs });
        }
    }
    shared.storage.commit(stored, &logged)?;
    let mut versions = shared.table_versions.lock();
    for change in &changes {
        *versions.entry(change.table).or_default() += 1;
        shared.counters.rows_written.fetch_add(change.row_count() as u64, Ordering::Relaxed);
    }
    drop(versions);
    publish();
    let writes = changes.into_iter().map(|change| Write {
        relation: change.table,
        row_count: change.diffs.len(),
        columns: change.columns,
        diffs: change.diffs,
    });
    shared.runtime.write(writes.collect(), note_times(shared, times));
    Ok(())
}

/// All rows of a table after `changes`, and their number.
pub(crate) async fn rows_after(
    shared: &Shared,
    table: ObjectId,
    schema: &RelationSchema,
    changes: Pending<'_>,
) -> Result<(Vec<ArrayRef>, usize), PgError> {
    let arrow_schema = schema.arrow();
    let mut batches = Vec::new();
    for answer in shared.runtime.peek(vec![PeekTarget { dataflow: table, keys: None }]).answers {
        let answer = answer.await.map_err(|_| PgError::internal("a peek was not answered"))??;
        for rows in answer.batches {
            batches.push(batch(&arrow_schema, rows.columns().to_vec(), rows.num_rows())?);
        }
    }
    let own: Vec<Change> = changes.of(table).cloned().collect();
    if !own.is_empty() {
        batches = overlay(schema, &arrow_schema, batches, &own)?;
    }
    concat(batches, &arrow_schema)
}

/// Those of `rows`, which `changes` have added to a table, that are still in it after them.
pub(crate) async fn still_there(
    shared: &Shared,
    schema: &RelationSchema,
    table: ObjectId,
    rows: Vec<ArrayRef>,
    changes: Pending<'_>,
) -> Result<Vec<ArrayRef>, PgError> {
    if changes.of(table).all(|change| (0..change.row_count()).all(|row| change.diffs.get(row) > 0)) {
        return Ok(rows);
    }
    let types: Vec<SqlType> = schema.columns.iter().map(|column| column.sql_type.clone()).collect();
    let keys = Keys::new(&types)?;
    let (there, _) = rows_after(shared, table, schema, changes).await?;
    let there: std::collections::HashSet<OwnedRow> = keys.of(&there)?.into_iter().collect();
    let kept: Vec<usize> =
        keys.of(&rows)?.iter().enumerate().filter(|(_, key)| there.contains(key)).map(|(row, _)| row).collect();
    crate::rules::take_rows(&rows, &kept)
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
