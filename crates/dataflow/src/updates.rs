//! The container between operators: unsorted updates as Arrow columns, with the hashes an arrangement will want.
//!
//! Hashes are computed once, by the stateless stage before an exchange: on one worker timely skips the distributor, and
//! an arrangement reads the hashes anyway. Crossing processes, a container is an Arrow IPC stream.

use std::io::Write;
use std::sync::Arc;

pub use crate::errors::{ErrorRow, ErrorUpdates};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array,
    UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{Field, Int64Type, Schema, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use repr::hash::{KEY_SEED, ROW_SEED, hash_columns};
use repr::{Diff, Lane, Timestamp};
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

/// Accumulator states as diffs: `width` numbers a row, row after row.
#[derive(Clone, Debug, Default)]
pub struct Accumulators {
    /// Lanes a row.
    pub width: usize,
    /// `width` values for each row.
    pub values: Vec<i128>,
}

/// Updates on their way between operators: neither sorted nor consolidated.
#[derive(Clone, Debug)]
pub struct Updates {
    /// One array a column; possibly none at all, so the row count is that of `times`.
    pub columns: Vec<ArrayRef>,
    /// When each row changes.
    pub times: Lane<Timestamp>,
    /// By how many copies. Constant 1 where `accumulators` is the diff.
    pub diffs: Lane<Diff>,
    /// The diff where it is not a number of copies.
    pub accumulators: Option<Accumulators>,
    /// Hash of the key that the next arrangement wants; empty until something wants one.
    pub key_hashes: Vec<u64>,
    /// Hash of the whole row, likewise.
    pub row_hashes: Vec<u64>,
    /// The order within a key, for an arrangement that is ordered; empty otherwise.
    pub ranks: Vec<u64>,
}

impl Default for Updates {
    fn default() -> Updates {
        Updates::new(Vec::new(), Lane::Constant(0, 0), Lane::Constant(1, 0))
    }
}

impl Accountable for Updates {
    fn record_count(&self) -> i64 {
        self.times.len() as i64
    }
}

impl Updates {
    /// Updates without hashes. All lanes have one length.
    pub fn new(columns: Vec<ArrayRef>, times: Lane<Timestamp>, diffs: Lane<Diff>) -> Updates {
        debug_assert_eq!(times.len(), diffs.len());
        debug_assert!(columns.iter().all(|column| column.len() == times.len()));
        Updates {
            columns,
            times,
            diffs,
            accumulators: None,
            key_hashes: Vec::new(),
            row_hashes: Vec::new(),
            ranks: Vec::new(),
        }
    }

    /// The number of updates.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no update.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The same rows, times and diffs over other columns; hashes are forgotten.
    pub(crate) fn with_columns(self, columns: Vec<ArrayRef>) -> Updates {
        Updates::new(columns, self.times, self.diffs)
    }

    /// Fills the hash lanes for an arrangement by `key`.
    pub(crate) fn hash(&mut self, key: &[usize]) {
        let row_count = self.len();
        self.key_hashes = hash_columns(key.iter().map(|column| &self.columns[*column]), row_count, KEY_SEED);
        self.row_hashes = hash_columns(&self.columns, row_count, ROW_SEED);
        self.ranks = Vec::new();
    }

    /// The same updates with diffs turned round.
    pub(crate) fn negated(mut self) -> Updates {
        self.diffs = match self.diffs {
            Lane::Constant(diff, len) => Lane::Constant(-diff, len),
            Lane::Values(diffs) => Lane::Values(diffs.into_iter().map(|diff| -diff).collect()),
        };
        self
    }

    /// The rows whose times satisfy a condition, and the others, hashes included.
    pub(crate) fn split(self, holds: impl Fn(Timestamp) -> bool) -> (Updates, Updates) {
        let all_or_none = match &self.times {
            Lane::Constant(time, _) => Some(holds(*time)),
            Lane::Values(_) => None,
        };
        let (held, others): (Vec<u32>, Vec<u32>) = match all_or_none {
            Some(true) => return (self, Updates::default()),
            Some(false) => return (Updates::default(), self),
            None => (0..self.len() as u32).partition(|row| holds(self.times.get(*row as usize))),
        };
        match (held.is_empty(), others.is_empty()) {
            (_, true) => (self, Updates::default()),
            (true, false) => (Updates::default(), self),
            (false, false) => (self.take(&UInt32Array::from(held)), self.take(&UInt32Array::from(others))),
        }
    }

    /// The rows at `indices`, in that order, hashes included.
    pub(crate) fn take(&self, indices: &UInt32Array) -> Updates {
        let numbers = |lane: &Vec<u64>| {
            if lane.is_empty() {
                Vec::new()
            } else {
                indices.values().iter().map(|index| lane[*index as usize]).collect()
            }
        };
        Updates {
            columns: self.columns.iter().map(|column| take_rows(column, indices)).collect(),
            times: take_lane(&self.times, indices.values()),
            diffs: take_lane(&self.diffs, indices.values()),
            accumulators: self.accumulators.as_ref().map(|accumulators| {
                let width = accumulators.width;
                let mut values = Vec::with_capacity(indices.len() * width);
                for index in indices.values() {
                    values.extend_from_slice(&accumulators.values[*index as usize * width..][..width]);
                }
                Accumulators { width, values }
            }),
            key_hashes: numbers(&self.key_hashes),
            row_hashes: numbers(&self.row_hashes),
            ranks: numbers(&self.ranks),
        }
    }
}

/// The rows of `column` at `indices`, which lie within it.
pub(crate) fn take_rows(column: &ArrayRef, indices: &UInt32Array) -> ArrayRef {
    take(column.as_ref(), indices, None).expect("indices within the column, of a type that Arrow can take")
}

/// The values of `lane` at `indices`.
pub(crate) fn take_lane<X: Copy + PartialEq>(lane: &Lane<X>, indices: &[u32]) -> Lane<X> {
    match lane {
        Lane::Constant(value, _) => Lane::Constant(*value, indices.len()),
        Lane::Values(values) => Lane::Values(indices.iter().map(|index| values[*index as usize]).collect()),
    }
}

/// Sends each row to the worker that owns its key.
pub(crate) struct KeyDistributor;

impl Distributor<Updates> for KeyDistributor {
    fn partition<T: Clone, P: Push<Message<T, Updates>>>(
        &mut self,
        container: &mut Updates,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let mut updates = std::mem::take(container);
        let mut indices: Vec<Vec<u32>> =
            pushers.iter().map(|_| Vec::with_capacity(updates.len() / pushers.len() + 16)).collect();
        for (row, hash) in updates.key_hashes.iter().enumerate() {
            indices[(hash % pushers.len() as u64) as usize].push(row as u32);
        }
        for (indices, pusher) in indices.into_iter().zip(pushers) {
            if indices.len() == updates.len() {
                Message::push_at(&mut updates, stamp.clone(), pusher);
                return;
            }
            if !indices.is_empty() {
                Message::push_at(&mut updates.take(&UInt32Array::from(indices)), stamp.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Updates>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

/// The wire form: a header of four words (row count, which hash lanes there are, accumulator width, body length), then
/// an Arrow IPC stream of times, diffs, those lanes and the columns, padded to eight bytes.
impl Updates {
    fn encode(&self) -> Vec<u8> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(self.times.iter())),
            Arc::new(Int64Array::from_iter_values(self.diffs.iter())),
        ];
        for lane in [&self.key_hashes, &self.row_hashes, &self.ranks] {
            if !lane.is_empty() {
                arrays.push(Arc::new(UInt64Array::from_iter_values(lane.iter().copied())));
            }
        }
        if let Some(accumulators) = &self.accumulators {
            let size = accumulators.width * 16;
            let bytes: Vec<u8> = accumulators.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            arrays.push(Arc::new(FixedSizeBinaryArray::new(size as i32, bytes.into(), None)));
        }
        arrays.extend(self.columns.iter().cloned());
        let fields: Vec<Field> = arrays.iter().map(|array| Field::new("", array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options).expect("lanes of one length");
        let mut body = Vec::new();
        let mut writer = StreamWriter::try_new(&mut body, &schema).expect("every stored type has an IPC form");
        writer.write(&batch).and_then(|()| writer.finish()).expect("memory takes every write");
        drop(writer);
        body
    }

    fn lane_flags(&self) -> u64 {
        (!self.key_hashes.is_empty()) as u64
            | ((!self.row_hashes.is_empty()) as u64) << 1
            | ((!self.ranks.is_empty()) as u64) << 2
    }
}

const HEADER_BYTES: usize = 32;

impl ContainerBytes for Updates {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Updates {
        let word = |index: usize| {
            u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().expect("a header of four words"))
        };
        let (row_count, flags, width, length) = (word(0), word(1), word(2) as usize, word(3) as usize);
        if row_count == 0 {
            return Updates::default();
        }
        let body = &bytes[HEADER_BYTES..HEADER_BYTES + length];
        let batch = StreamReader::try_new(body, None)
            .ok()
            .and_then(|mut reader| reader.next())
            .and_then(|batch| batch.ok())
            .expect("a peer sends what encode wrote");
        let mut arrays = batch.columns().iter().cloned();
        let mut next = || arrays.next().expect("as many columns as the header says");
        let numbers = |array: ArrayRef| array.as_primitive::<UInt64Type>().values().to_vec();
        let times = Lane::Values(numbers(next())).compress();
        let diffs = Lane::Values(next().as_primitive::<Int64Type>().values().to_vec()).compress();
        let mut lane = |bit: u64| if flags & bit != 0 { numbers(next()) } else { Vec::new() };
        let (key_hashes, row_hashes, ranks) = (lane(1), lane(2), lane(4));
        let accumulators = (width > 0).then(|| {
            let array = next();
            let bytes = array.as_fixed_size_binary().value_data();
            let values =
                bytes.chunks_exact(16).map(|value| i128::from_le_bytes(value.try_into().expect("16 bytes"))).collect();
            Accumulators { width, values }
        });
        Updates { columns: arrays.collect(), times, diffs, accumulators, key_hashes, row_hashes, ranks }
    }

    fn length_in_bytes(&self) -> usize {
        if self.is_empty() { HEADER_BYTES } else { HEADER_BYTES + self.encode().len().next_multiple_of(8) }
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let body = if self.is_empty() { Vec::new() } else { self.encode() };
        let width = self.accumulators.as_ref().map_or(0, |accumulators| accumulators.width);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + 8);
        for word in [self.len() as u64, self.lane_flags(), width as u64, body.len() as u64] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        writer.write_all(&bytes).expect("timely allocated what length_in_bytes asked for");
    }
}
