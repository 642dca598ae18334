//! Which primary keys a table may have: most inserts are of new keys, and need no lookup to learn that.
//!
//! A lookup asks the worker that has the key, which is two changes of thread beside the one that the write itself costs. A
//! Bloom filter in the engine knows most new keys as new. It errs on one side only: a key that it does not know is not in the
//! table, since every row comes through [`KeyFilters::add`], be it written or restored; one that it seems to know is looked
//! up. Deleted keys stay in it until a restart.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use fastbloom::BloomFilter;
use parking_lot::Mutex;
use repr::hash::{KEY_SEED, hash_columns};
use repr::{Diff, Lane, ObjectId, RelationSchema};

use crate::unique::is_exact;

/// Keys that the first filter of a table is made for.
const FIRST_KEYS: usize = 4096;
/// How much more the next one is made for.
const GROWTH: usize = 4;
/// How often one of them takes a new key for a known one.
const FALSE_POSITIVES: f64 = 0.004;

/// The filters of all tables. One that is not listed is empty.
#[derive(Default)]
pub(crate) struct KeyFilters {
    tables: Mutex<HashMap<ObjectId, KeyFilter>>,
}

/// Filters of growing size; only the last one takes keys.
#[derive(Default)]
struct KeyFilter {
    filters: Vec<BloomFilter>,
    /// Keys that the last one was made for, and has taken.
    capacity: usize,
    taken: usize,
}

impl KeyFilter {
    fn add(&mut self, hash: u64) {
        if self.may_have(hash) {
            return;
        }
        if self.taken == self.capacity {
            self.capacity = if self.filters.is_empty() { FIRST_KEYS } else { self.capacity * GROWTH };
            self.taken = 0;
            self.filters.push(BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(self.capacity));
        }
        if let Some(last) = self.filters.last_mut() {
            last.insert_hash(hash);
            self.taken += 1;
        }
    }

    fn may_have(&self, hash: u64) -> bool {
        self.filters.iter().any(|filter| filter.contains_hash(hash))
    }
}

impl KeyFilters {
    /// Notes the keys of rows that a table gets. Those with a negative diff were noted when they came.
    pub(crate) fn add(&self, table: ObjectId, schema: &RelationSchema, columns: &[ArrayRef], diffs: &Lane<Diff>) {
        let Some(key) = filtered_key(schema) else { return };
        let hashes = hash_columns(key.iter().map(|index| &columns[*index]), diffs.len(), KEY_SEED);
        let mut tables = self.tables.lock();
        let filter = tables.entry(table).or_default();
        for (row, hash) in hashes.into_iter().enumerate() {
            if diffs.get(row) > 0 {
                filter.add(hash);
            }
        }
    }

    /// The rows of the key columns `columns` whose key the table may have; all of them where it keeps no filter.
    pub(crate) fn candidates(
        &self,
        table: ObjectId,
        schema: &RelationSchema,
        columns: &[ArrayRef],
        rows: &[usize],
    ) -> Vec<usize> {
        if filtered_key(schema).is_none() {
            return rows.to_vec();
        }
        let row_count = columns.first().map_or(0, |column| column.len());
        let hashes = hash_columns(columns, row_count, KEY_SEED);
        let tables = self.tables.lock();
        let filter = tables.get(&table);
        rows.iter().copied().filter(|row| filter.is_some_and(|filter| filter.may_have(hashes[*row]))).collect()
    }

    /// Forgets a table.
    pub(crate) fn remove(&self, table: ObjectId) {
        self.tables.lock().remove(&table);
    }
}

/// The primary key's columns, if equal keys have equal hashes.
fn filtered_key(schema: &RelationSchema) -> Option<&[usize]> {
    let key = schema.primary_key.as_deref().filter(|key| !key.is_empty())?;
    key.iter().all(|index| is_exact(&schema.columns[*index].sql_type)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_and_little_else() {
        let hash = |number: u64| hash_columns(&[numbers(&[number as i64])], 1, KEY_SEED)[0];
        let mut filter = KeyFilter::default();
        assert!(!filter.may_have(hash(1)));
        (0..200_000).for_each(|number| filter.add(hash(number)));
        assert!((0..200_000).all(|number| filter.may_have(hash(number))));
        let wrong = (200_000..300_000).filter(|number| filter.may_have(hash(*number))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000 new keys are taken for known ones");
    }

    #[test]
    fn tables_are_apart_and_may_have_no_filter() {
        let column = |sql_type| repr::ColumnSchema { name: "k".into(), sql_type, typmod: -1, nullable: false };
        let schema = |sql_type| RelationSchema { columns: vec![column(sql_type)], primary_key: Some(vec![0]) };
        let filters = KeyFilters::default();
        let exact = schema(repr::SqlType::Int8);
        let keys = [numbers(&[1, 2])];
        filters.add(ObjectId(1), &exact, &keys, &Lane::Values(vec![1, -1]));
        assert_eq!(filters.candidates(ObjectId(1), &exact, &keys, &[0, 1]), [0]);
        assert_eq!(filters.candidates(ObjectId(2), &exact, &keys, &[0, 1]), [0; 0]);
        // 1.0 and 1.00 are one key with two hashes.
        let numeric = schema(repr::SqlType::Numeric);
        assert_eq!(filters.candidates(ObjectId(1), &numeric, &keys, &[0, 1]), [0, 1]);
        filters.remove(ObjectId(1));
        assert_eq!(filters.candidates(ObjectId(1), &exact, &keys, &[0, 1]), [0; 0]);
    }

    fn numbers(values: &[i64]) -> ArrayRef {
        std::sync::Arc::new(arrow::array::Int64Array::from(values.to_vec()))
    }
}
