//! What a table's rows must satisfy: NOT NULL, and at most one row a unique key.
//!
//! A key's count after a write is its count before plus the sum of the write's diffs on it, so swaps and multi-row updates
//! need no order: only keys whose sum is positive, and that the table may have by its [`crate::key_filter`], are looked up,
//! all of them in one peek.

use std::collections::{HashMap, HashSet};

use arrow::array::AsArray;
use arrow::array::{Array, ArrayRef, LargeBinaryArray, UInt64Array};
use arrow::row::{OwnedRow, RowConverter, SortField};
use catalog::Object;
use dataflow::PeekTarget;
use repr::{PgError, RelationSchema, SqlState, SqlType};

use crate::engine::Shared;
use crate::rules::{Rules, UniqueKey, key_text};
use crate::write::{Change, Pending};

/// Rows as comparable keys.
pub(crate) struct Keys {
    converter: RowConverter,
    is_numeric: Vec<bool>,
}

impl Keys {
    pub(crate) fn new(types: &[SqlType]) -> Result<Keys, PgError> {
        let fields = types.iter().map(|sql_type| SortField::new(sql_type.arrow())).collect();
        let converter = RowConverter::new(fields).map_err(|error| PgError::internal(error.to_string()))?;
        Ok(Keys { converter, is_numeric: types.iter().map(|sql_type| *sql_type == SqlType::Numeric).collect() })
    }

    /// One key a row; equal where SQL says the values are equal.
    pub(crate) fn of(&self, columns: &[ArrayRef]) -> Result<Vec<OwnedRow>, PgError> {
        let columns: Vec<ArrayRef> =
            columns.iter().zip(&self.is_numeric).map(|(column, numeric)| canonical(column, *numeric)).collect();
        let rows = self.converter.convert_columns(&columns).map_err(|error| PgError::internal(error.to_string()))?;
        Ok(rows.iter().map(|row| row.owned()).collect())
    }
}

/// Numbers without their display scale: 1.0 and 1.00 are one key.
fn canonical(column: &ArrayRef, numeric: bool) -> ArrayRef {
    if !numeric {
        return ArrayRef::clone(column);
    }
    let keys = column.as_binary::<i64>().iter().map(|value| value.map(repr::numeric::key));
    std::sync::Arc::new(LargeBinaryArray::from_iter(keys))
}

/// Errors: `23502` for a NULL where the table allows none, with PostgreSQL's words.
pub(crate) fn check_not_null(object: &Object, schema: &RelationSchema, change: &Change) -> Result<(), PgError> {
    for (index, column) in schema.columns.iter().enumerate() {
        let must = !column.nullable || schema.primary_key.as_ref().is_some_and(|key| key.contains(&index));
        let array = &change.columns[index];
        if !must || array.null_count() == 0 {
            continue;
        }
        let failing = (0..array.len()).find(|row| array.is_null(*row) && change.diffs.get(*row) > 0);
        if let Some(row) = failing {
            let message = format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, object.name
            );
            let detail = format!("Failing row contains ({}).", row_text(schema, &change.columns, row));
            return Err(PgError::new(SqlState::NOT_NULL_VIOLATION, message).with_detail(detail));
        }
    }
    Ok(())
}

/// A row's values for a message, as PostgreSQL writes them there.
pub(crate) fn row_text(schema: &RelationSchema, columns: &[ArrayRef], row: usize) -> String {
    let value = |(column, array): (&repr::ColumnSchema, &ArrayRef)| value_text(&column.sql_type, array, row);
    schema.columns.iter().zip(columns).map(value).collect::<Vec<_>>().join(", ")
}

pub(crate) fn value_text(sql_type: &SqlType, array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "null".to_string();
    }
    let mut text = String::new();
    repr::text::format_value(array.as_ref(), row, sql_type, &mut text);
    text
}

/// The rows of `change` that would be a second one of a key, given what `pending` changes before it.
///
/// Each is the index of a row with a positive diff. A row with a NULL in the key has it alone.
pub(crate) async fn conflicts(
    shared: &Shared,
    rules: &Rules,
    unique: &UniqueKey,
    pending: Pending<'_>,
    change: &Change,
) -> Result<Vec<usize>, PgError> {
    let (schema, key) = (&rules.schema, &unique.columns);
    let types: Vec<SqlType> = key.iter().map(|index| schema.columns[*index].sql_type.clone()).collect();
    let keys = Keys::new(&types)?;
    let of = |change: &Change| {
        keys.of(&key.iter().map(|index| ArrayRef::clone(&change.columns[*index])).collect::<Vec<_>>())
    };
    let rows = of(change)?;
    // For each key, how many rows the change takes away (not positive) and adds.
    let mut counts: HashMap<&OwnedRow, (i64, i64)> = HashMap::with_capacity(rows.len());
    for (row, key) in rows.iter().enumerate() {
        let (removed, added) = counts.entry(key).or_default();
        match change.diffs.get(row) {
            diff if diff > 0 => *added += diff,
            diff => *removed += diff,
        }
    }
    let has_null = |row: usize| key.iter().any(|index| change.columns[*index].is_null(row));
    let is_wanted = |row: &usize| {
        let (removed, added) = counts[&rows[*row]];
        change.diffs.get(*row) > 0 && removed + added > 0 && (unique.primary || !has_null(*row))
    };
    let wanted: Vec<usize> = (0..rows.len()).filter(is_wanted).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let key_columns: Vec<ArrayRef> = key.iter().map(|index| ArrayRef::clone(&change.columns[*index])).collect();
    let candidates = match unique.primary {
        true => shared.key_filters.candidates(rules.table.id, schema, &key_columns, &wanted),
        false => wanted.clone(),
    };
    let mut answers = Vec::new();
    if !candidates.is_empty() {
        let indices = UInt64Array::from_iter_values(candidates.iter().map(|row| *row as u64));
        let sought: Vec<ArrayRef> = key_columns
            .iter()
            .map(|column| arrow::compute::take(column, &indices, None))
            .collect::<Result<_, _>>()
            .map_err(|error| PgError::internal(error.to_string()))?;
        let lookup = types.iter().all(is_exact).then_some(sought);
        answers = shared.runtime.peek(vec![PeekTarget { dataflow: unique.dataflow, keys: lookup }]).answers;
    }
    let mut existing: HashMap<OwnedRow, i64> = HashMap::new();
    for answer in answers {
        let answer = answer.await.map_err(|_| PgError::internal("a peek was not answered"))??;
        for batch in answer.batches {
            let columns: Vec<ArrayRef> = key.iter().map(|index| ArrayRef::clone(batch.column(*index))).collect();
            for row in keys.of(&columns)? {
                *existing.entry(row).or_default() += 1;
            }
        }
    }
    for earlier in pending.of(change.table) {
        for (row, key) in of(earlier)?.into_iter().enumerate() {
            *existing.entry(key).or_default() += earlier.diffs.get(row);
        }
    }
    let mut seen: HashMap<&OwnedRow, i64> = HashMap::new();
    let mut conflicting = Vec::new();
    for row in wanted {
        // The first of several new rows with one key may stay, if the key is free.
        let before = existing.get(&rows[row]).copied().unwrap_or(0);
        let taken = seen.entry(&rows[row]).or_insert(before + counts[&rows[row]].0);
        if *taken > 0 {
            conflicting.push(row);
        } else {
            *taken += 1;
        }
    }
    Ok(conflicting)
}

/// Whether equal values of the type are equal as stored, so that an arrangement finds them by hash.
pub(crate) fn is_exact(sql_type: &SqlType) -> bool {
    matches!(
        sql_type,
        SqlType::Bool
            | SqlType::Bytea
            | SqlType::Name
            | SqlType::Int8
            | SqlType::Int2
            | SqlType::Int4
            | SqlType::Text
            | SqlType::Varchar
            | SqlType::Oid
            | SqlType::Date
            | SqlType::Time
            | SqlType::Timestamp
            | SqlType::Timestamptz
            | SqlType::Uuid
    )
}

/// `23505` for row `row` of `change`, with PostgreSQL's words.
pub(crate) fn duplicate_key(rules: &Rules, key: &UniqueKey, change: &Change, row: usize) -> PgError {
    let message = format!("duplicate key value violates unique constraint \"{}\"", key.name);
    let detail = format!("{} already exists.", key_text(&rules.schema, &key.columns, &change.columns, row));
    PgError::new(SqlState::UNIQUE_VIOLATION, message).with_detail(detail)
}

/// Errors: `23505` if two rows without a NULL in `key` share it, which index `name` does not allow.
pub(crate) fn check_distinct(
    name: &str,
    schema: &RelationSchema,
    key: &[usize],
    columns: &[ArrayRef],
    row_count: usize,
) -> Result<(), PgError> {
    let types: Vec<SqlType> = key.iter().map(|index| schema.columns[*index].sql_type.clone()).collect();
    let rows = Keys::new(&types)?.of(&crate::rules::pick(columns, key))?;
    let mut seen = HashSet::with_capacity(row_count);
    for (row, value) in rows.iter().enumerate() {
        let null = key.iter().any(|index| columns[*index].is_null(row));
        if !null && !seen.insert(value) {
            let message = format!("could not create unique index \"{name}\"");
            let detail = format!("{} is duplicated.", key_text(schema, key, columns, row));
            return Err(PgError::new(SqlState::UNIQUE_VIOLATION, message).with_detail(detail));
        }
    }
    Ok(())
}
