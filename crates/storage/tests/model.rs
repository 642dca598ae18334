//! The log against a model: after any writes and reopenings a table holds what a `BTreeMap` of counts holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use repr::{Lane, ObjectId};
use storage::{CatalogChange, Storage, StorageError, StoredObject, StoredSequence, TableWrite};

type Model = BTreeMap<(i64, Option<String>), i64>;

const TYPES: [DataType; 2] = [DataType::Int64, DataType::Utf8];

fn columns(rows: &[(i64, Option<String>)]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1.clone()))),
    ]
}

fn stored(storage: &Storage, table: ObjectId) -> Model {
    let rows = storage.load_table(table, &TYPES).expect("a readable log");
    let keys = rows.columns[0].as_primitive::<Int64Type>();
    let names = rows.columns[1].as_string::<i32>();
    let name = |index: usize| names.is_valid(index).then(|| names.value(index).to_string());
    rows.counts.iter().enumerate().map(|(index, count)| ((keys.value(index), name(index)), *count)).collect()
}

#[test]
fn a_table_is_the_sum_of_its_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let tables = [ObjectId(20000), ObjectId(20001)];
    let mut models = [Model::new(), Model::new()];
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..5 {
        let storage = Storage::open(directory.path()).expect("opens");
        for (table, model) in tables.iter().zip(&models) {
            assert_eq!(&stored(&storage, *table), model);
        }
        for _ in 0..200 {
            let mut rows = [Vec::new(), Vec::new()];
            let mut diffs = [Vec::new(), Vec::new()];
            for which in 0..2 {
                for _ in 0..random.random_range(1..20) {
                    let row = (random.random_range(0..8), random.random_bool(0.7).then(|| "row".to_string()));
                    let count = models[which].entry(row.clone()).or_default();
                    let diff = if *count > 0 && random.random_bool(0.5) { -1 } else { 1 };
                    *count += diff;
                    rows[which].push(row);
                    diffs[which].push(diff);
                }
                models[which].retain(|_, count| *count != 0);
            }
            let [first, second] = diffs.map(Lane::Values);
            let (left, right) = (columns(&rows[0]), columns(&rows[1]));
            let position = storage
                .append(&[
                    TableWrite { table: tables[0], columns: &left, diffs: &first },
                    TableWrite { table: tables[1], columns: &right, diffs: &second },
                ])
                .expect("appends");
            storage.sync(position).expect("syncs");
            assert!(storage.is_synced(position));
        }
    }
    let storage = Storage::open(directory.path()).expect("opens");
    let removal = CatalogChange { removed: vec![tables[0]], ..CatalogChange::default() };
    storage.commit(&removal, &[]).expect("removes");
    assert_eq!(stored(&storage, tables[0]), Model::new());
    assert_eq!(stored(&storage, tables[1]), models[1]);
}

#[test]
fn objects_come_back_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let object = |id: u32| StoredObject {
        id,
        oid: id,
        kind: "table".into(),
        schema: "public".into(),
        name: format!("t{id}"),
        sql: "CREATE ..".into(),
        column_numbers: vec![1, 3],
        names: Some(serde_json::json!([{ "name": "u", "id": 1 }])),
        comments: [(0, "what it is for".to_string())].into(),
    };
    let put =
        |ids: &[u32]| CatalogChange { put: ids.iter().map(|id| object(*id)).collect(), ..CatalogChange::default() };
    {
        let storage = Storage::open(directory.path()).expect("opens");
        storage.commit(&put(&[300, 16384]), &[]).expect("stores");
        storage.commit(&put(&[16385]), &[]).expect("stores");
        storage.put_sequence(7, StoredSequence { last_value: 32, is_called: true }).expect("stores");
        storage.put_sequence(8, StoredSequence { last_value: 1, is_called: false }).expect("stores");
        let removal =
            CatalogChange { removed: vec![ObjectId(16384)], removed_sequences: vec![8], ..Default::default() };
        storage.commit(&removal, &[]).expect("removes");
    }
    let storage = Storage::open(directory.path()).expect("opens");
    assert_eq!(storage.objects().expect("reads"), vec![object(300), object(16385)]);
    let known = StoredSequence { last_value: 32, is_called: true };
    assert_eq!([7, 8].map(|oid| storage.sequence(oid).expect("reads")), [Some(known), None]);
}

#[test]
fn a_second_server_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let _first = Storage::open(directory.path()).expect("opens");
    assert!(matches!(Storage::open(directory.path()), Err(StorageError::InUse { .. })));
}

#[test]
fn waiting_threads_are_all_released() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = Storage::open(directory.path()).expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..8i64 {
            let storage = &storage;
            scope.spawn(move || {
                for _ in 0..50 {
                    let rows = columns(&[(thread, None)]);
                    let diffs = Lane::Constant(1, 1);
                    let write = TableWrite { table: ObjectId(20000), columns: &rows, diffs: &diffs };
                    let position = storage.append(&[write]).expect("appends");
                    storage.sync(position).expect("syncs");
                }
            });
        }
    });
    assert_eq!(stored(&storage, ObjectId(20000)).values().sum::<i64>(), 400);
}
