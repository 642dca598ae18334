//! The log of table writes: appended in order, synced in groups, read back consolidated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use repr::hash::{KEY_SEED, ROW_SEED, hash_columns};
use repr::{Diff, Lane, ObjectId};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch};

use crate::{LOG, SCHEMA, Storage, StorageError};

/// A point in the order of all table writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition(pub u64);

/// What one write does to one table.
pub struct TableWrite<'a> {
    /// The table.
    pub table: ObjectId,
    /// The rows that change, one array a column.
    pub columns: &'a [ArrayRef],
    /// By how many copies each changes; as many as there are rows.
    pub diffs: &'a Lane<Diff>,
}

/// A table's rows as they were last written: each distinct row once, with its positive count.
#[derive(Debug)]
pub struct TableRows {
    /// One array a column; empty if nothing was ever written.
    pub columns: Vec<ArrayRef>,
    /// How many copies of each row there are.
    pub counts: Vec<Diff>,
}

/// A log is rewritten at load when it holds this many times the rows that are left of it.
const REWRITE_RATIO: usize = 2;

/// Logs shorter than this are not worth rewriting.
const REWRITE_ROWS_MIN: usize = 10_000;

/// Rows of one log record when a log is rewritten.
const REWRITE_RECORD_ROWS: usize = 8_192;

pub(crate) struct Log {
    /// The last position given out. Held while writing, so that positions enter RocksDB's log in order.
    next: Mutex<u64>,
    appended: AtomicU64,
    sync: Mutex<SyncState>,
    synced: Condvar,
    schemas: Mutex<HashMap<ObjectId, Arc<StoredSchema>>>,
}

#[derive(Default)]
struct SyncState {
    /// Everything up to here is on disk.
    done: u64,
    /// A thread is in fsync now.
    busy: bool,
}

/// A table's columns and diff as Arrow, and the IPC bytes that announce them: the same at the start of every record, so
/// they are stored once a table.
struct StoredSchema {
    schema: Arc<Schema>,
    prefix: Vec<u8>,
}

impl Log {
    pub(crate) fn open(db: &DB) -> Result<Log, StorageError> {
        let mut last = 0;
        for id in stored_tables(db)? {
            last = last.max(last_position(db, id)?);
        }
        Ok(Log {
            next: Mutex::new(last + 1),
            appended: AtomicU64::new(last),
            sync: Mutex::new(SyncState { done: last, busy: false }),
            synced: Condvar::new(),
            schemas: Mutex::new(HashMap::new()),
        })
    }

    pub(crate) fn forget(&self, tables: &[ObjectId]) {
        let mut schemas = self.schemas.lock();
        for table in tables {
            schemas.remove(table);
        }
    }
}

impl Storage {
    /// Appends one atomic write over any number of tables. In order with all other appends; durable only after [`Storage::sync`].
    ///
    /// Errors: RocksDB's, when nothing was written.
    pub fn append(&self, writes: &[TableWrite<'_>]) -> Result<LogPosition, StorageError> {
        self.write(WriteBatch::default(), writes)
    }

    /// Writes `batch` and, in the same step, appends `writes`.
    pub(crate) fn write(&self, mut batch: WriteBatch, writes: &[TableWrite<'_>]) -> Result<LogPosition, StorageError> {
        let mut next = self.log.next.lock();
        for (index, write) in writes.iter().enumerate() {
            let schema = self.schema_of(write, &mut batch)?;
            let key = log_key(write.table, *next + index as u64);
            batch.put_cf(self.family(LOG), key, encode(&schema, write.columns, write.diffs));
        }
        self.db.write(batch)?;
        *next += writes.len().max(1) as u64;
        let position = *next - 1;
        self.log.appended.store(position, Ordering::Release);
        Ok(LogPosition(position))
    }

    /// The last position appended, synced or not.
    pub fn appended(&self) -> LogPosition {
        LogPosition(self.log.appended.load(Ordering::Acquire))
    }

    /// Whether everything up to `position` is on disk already.
    pub fn is_synced(&self, position: LogPosition) -> bool {
        self.log.sync.lock().done >= position.0
    }

    /// Blocks until everything up to `position` is on disk. Threads that wait together share one fsync.
    pub fn sync(&self, position: LogPosition) -> Result<(), StorageError> {
        let mut state = self.log.sync.lock();
        while state.done < position.0 {
            if state.busy {
                self.log.synced.wait(&mut state);
                continue;
            }
            state.busy = true;
            drop(state);
            // Read before the fsync: what is appended during it may or may not be covered.
            let covered = self.appended().0;
            let result = self.db.flush_wal(true);
            state = self.log.sync.lock();
            state.busy = false;
            if result.is_ok() {
                state.done = state.done.max(covered);
            }
            self.log.synced.notify_all();
            result?;
        }
        Ok(())
    }

    /// A table's rows as of the last append, and a shorter log in place of one that has mostly cancelled.
    ///
    /// `types` are the table's column types. Errors: [`StorageError::Corrupt`] if a record does not have them or a row's
    /// count is negative.
    pub fn load_table(&self, table: ObjectId, types: &[DataType]) -> Result<TableRows, StorageError> {
        let corrupt = |reason: String| StorageError::Corrupt { what: format!("log of table {table}"), reason };
        let batches = self.log_batches(table)?;
        let log_rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        for batch in &batches {
            let found: Vec<&DataType> = batch.columns().iter().map(|column| column.data_type()).collect();
            let known: Vec<&DataType> = types.iter().chain([&DataType::Int64]).collect();
            if found != known {
                return Err(corrupt(format!("record has columns {found:?} instead of {known:?}")));
            }
        }
        let rows = consolidate(&batches, types)?;
        if rows.counts.iter().any(|count| *count < 0) {
            return Err(corrupt("a row was taken away more often than it was added".to_string()));
        }
        if log_rows >= REWRITE_ROWS_MIN && log_rows >= rows.counts.len() * REWRITE_RATIO {
            self.rewrite(table, &rows)?;
        }
        Ok(rows)
    }

    fn log_batches(&self, table: ObjectId) -> Result<Vec<RecordBatch>, StorageError> {
        let Some(prefix) = self.db.get_cf(self.family(SCHEMA), table.0.to_be_bytes())? else {
            return Ok(Vec::new());
        };
        let mut batches = Vec::new();
        for entry in
            self.db.iterator_cf(self.family(LOG), IteratorMode::From(&table.0.to_be_bytes(), Direction::Forward))
        {
            let (key, value) = entry?;
            if !key.starts_with(&table.0.to_be_bytes()) {
                break;
            }
            batches.extend(decode(&prefix, &value).map_err(|error| StorageError::Corrupt {
                what: format!("log of table {table}"),
                reason: error.to_string(),
            })?);
        }
        Ok(batches)
    }

    fn rewrite(&self, table: ObjectId, rows: &TableRows) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        let mut next = self.log.next.lock();
        batch.delete_range_cf(self.family(LOG), log_key(table, 0), log_key(table, *next));
        for start in (0..rows.counts.len()).step_by(REWRITE_RECORD_ROWS) {
            let len = REWRITE_RECORD_ROWS.min(rows.counts.len() - start);
            let columns: Vec<ArrayRef> = rows.columns.iter().map(|column| column.slice(start, len)).collect();
            let diffs = Lane::Values(rows.counts[start..start + len].to_vec());
            let write = TableWrite { table, columns: &columns, diffs: &diffs };
            let schema = self.schema_of(&write, &mut batch)?;
            batch.put_cf(self.family(LOG), log_key(table, *next), encode(&schema, &columns, &diffs));
            *next += 1;
        }
        self.db.write(batch)?;
        self.log.appended.store(*next - 1, Ordering::Release);
        Ok(())
    }

    /// The table's stored schema; put into `batch` where this is its first write.
    fn schema_of(&self, write: &TableWrite<'_>, batch: &mut WriteBatch) -> Result<Arc<StoredSchema>, StorageError> {
        let mut schemas = self.log.schemas.lock();
        if let Some(schema) = schemas.get(&write.table) {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(StoredSchema::new(write.columns));
        batch.put_cf(self.family(SCHEMA), write.table.0.to_be_bytes(), &schema.prefix);
        schemas.insert(write.table, Arc::clone(&schema));
        Ok(schema)
    }
}

impl StoredSchema {
    fn new(columns: &[ArrayRef]) -> StoredSchema {
        let field =
            |(index, column): (usize, &ArrayRef)| Field::new(index.to_string(), column.data_type().clone(), true);
        let mut fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        fields.push(Field::new("diff", DataType::Int64, false));
        let schema = Arc::new(Schema::new(fields));
        let writer = StreamWriter::try_new(Vec::new(), &schema).expect("writing to memory");
        // Dropping the writer without finishing leaves just the schema message.
        let prefix = writer.get_ref().clone();
        StoredSchema { schema, prefix }
    }
}

/// The record batch message of `columns` and `diffs`, without the schema message before it.
fn encode(schema: &StoredSchema, columns: &[ArrayRef], diffs: &Lane<Diff>) -> Vec<u8> {
    let mut columns = columns.to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(diffs.iter())));
    let batch = RecordBatch::try_new(Arc::clone(&schema.schema), columns).expect("columns of the table's types");
    let mut writer = StreamWriter::try_new(Vec::new(), &schema.schema).expect("writing to memory");
    writer.write(&batch).expect("writing to memory");
    let bytes = writer.into_inner().expect("writing to memory");
    debug_assert!(bytes.starts_with(&schema.prefix));
    bytes[schema.prefix.len()..].to_vec()
}

fn decode(prefix: &[u8], record: &[u8]) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    let mut bytes = Vec::with_capacity(prefix.len() + record.len());
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(record);
    StreamReader::try_new(std::io::Cursor::new(bytes), None)?.collect()
}

/// Sums the counts of equal rows and keeps those that are not zero, in the order of their first appearance.
fn consolidate(batches: &[RecordBatch], types: &[DataType]) -> Result<TableRows, StorageError> {
    let corrupt = |error: arrow::error::ArrowError| StorageError::Corrupt {
        what: "log of a table".to_string(),
        reason: error.to_string(),
    };
    if batches.is_empty() {
        let columns = types.iter().map(arrow::array::new_empty_array).collect();
        return Ok(TableRows { columns, counts: Vec::new() });
    }
    let column = |index: usize| {
        let parts: Vec<&dyn arrow::array::Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        concat(&parts).map_err(corrupt)
    };
    let columns: Vec<ArrayRef> = (0..types.len()).map(column).collect::<Result<_, _>>()?;
    let diffs = column(types.len())?;
    let diffs = diffs.as_primitive::<Int64Type>().values();
    let keys = hash_columns(&columns, diffs.len(), KEY_SEED);
    let rows = hash_columns(&columns, diffs.len(), ROW_SEED);
    let mut order: HashMap<(u64, u64), usize> = HashMap::with_capacity(diffs.len());
    let mut first: Vec<u32> = Vec::new();
    let mut counts: Vec<Diff> = Vec::new();
    for (index, diff) in diffs.iter().enumerate() {
        let slot = *order.entry((keys[index], rows[index])).or_insert_with(|| {
            first.push(index as u32);
            counts.push(0);
            counts.len() - 1
        });
        counts[slot] += diff;
    }
    let kept: UInt32Array = first
        .iter()
        .zip(&counts)
        .filter(|(_, count)| **count != 0)
        .map(|(index, _)| *index)
        .collect::<Vec<u32>>()
        .into();
    counts.retain(|count| *count != 0);
    let columns = columns.iter().map(|column| take(column, &kept, None)).collect::<Result<_, _>>().map_err(corrupt)?;
    Ok(TableRows { columns, counts })
}

fn log_key(table: ObjectId, position: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&table.0.to_be_bytes());
    key[4..].copy_from_slice(&position.to_be_bytes());
    key
}

fn stored_tables(db: &DB) -> Result<Vec<u32>, StorageError> {
    let family = db.cf_handle(SCHEMA).expect("opened with every column family");
    let mut tables = Vec::new();
    for entry in db.iterator_cf(family, IteratorMode::Start) {
        let (key, _) = entry?;
        let id = key.as_ref().try_into().map(u32::from_be_bytes).map_err(|_| StorageError::Corrupt {
            what: "table schema".to_string(),
            reason: format!("key of {} bytes instead of 4", key.len()),
        })?;
        tables.push(id);
    }
    Ok(tables)
}

fn last_position(db: &DB, table: u32) -> Result<u64, StorageError> {
    let family = db.cf_handle(LOG).expect("opened with every column family");
    let end = log_key(ObjectId(table), u64::MAX);
    match db.iterator_cf(family, IteratorMode::From(&end, Direction::Reverse)).next() {
        None => Ok(0),
        Some(entry) => {
            let (key, _) = entry?;
            let position = key.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            match position {
                Some(position) if key.starts_with(&table.to_be_bytes()) => Ok(position),
                Some(_) => Ok(0),
                None => Err(StorageError::Corrupt {
                    what: "log key".to_string(),
                    reason: format!("{} bytes instead of 12", key.len()),
                }),
            }
        }
    }
}
