//! Accumulable aggregates: the accumulators are the diff of the arrangement, so that merging does the adding up.
//!
//! State is one row a group, and a change costs O(1) whatever the group's size. Lane 0 always counts the group's rows:
//! a group of none has no output. Containers are added up by group before they are exchanged, as far as that makes them
//! smaller.

use std::rc::Rc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::filter;
use hashbrown::HashTable;
use plan::dataflow_plan::{Aggregate, Node};
use repr::accumulator::Accumulator;
use repr::hash::{KEY_SEED, ROW_SEED, hash_columns};
use repr::{Diff, Lane, PgError, Timestamp};

use super::group::{Picked, Place};
use super::{BatchLogic, Output, Rows, stateless};
use crate::DataflowError;
use crate::arrange::Batch;
use crate::chunk::{CHUNK_ROWS_MAX, Weight, add_lanes};
use crate::cursor::{Cursor, Position};
use crate::errors::{ErrorRow, ErrorUpdates};
use crate::expression::filter_lane;
use crate::updates::{Accumulators, Updates, take_lane, take_rows};

/// About so many rows tell whether there are fewer groups than rows.
const SAMPLE_ROWS: usize = 4096;

/// Rows whose contributions are worked out at once: they should stay in the cache.
const SLICE_ROWS: usize = 2048;

/// The grouping and its aggregates, compiled.
#[derive(Clone)]
pub(crate) struct GroupFunction {
    pub(crate) key: Vec<usize>,
    aggregates: Rc<Vec<Lanes>>,
    /// Lanes a group.
    pub(crate) width: usize,
}

/// One aggregate and where its lanes are.
struct Lanes {
    accumulator: Accumulator,
    argument: Option<usize>,
    filter: Option<usize>,
    offset: usize,
}

impl GroupFunction {
    /// Fails on an aggregate that has no accumulator.
    pub(crate) fn new(
        input: &Node,
        output: &Node,
        key: &[usize],
        aggregates: &[Aggregate],
    ) -> Result<GroupFunction, DataflowError> {
        let invalid = |what: String| Err(DataflowError::InvalidPlan(what));
        if output.schema.fields().len() != key.len() + aggregates.len() {
            return invalid("a reduction has a schema of another width".to_owned());
        }
        let fields = input.schema.fields();
        let mut width = 1;
        let mut lanes = Vec::new();
        let read = aggregates.iter().flat_map(|aggregate| aggregate.argument.into_iter().chain(aggregate.filter));
        if let Some(column) = key.iter().copied().chain(read).find(|column| *column >= fields.len()) {
            return invalid(format!("a reduction reads column {column}, which is not there"));
        }
        for (index, aggregate) in aggregates.iter().enumerate() {
            let argument = aggregate.argument.map(|column| fields[column].data_type());
            let accumulator = Accumulator::new(&aggregate.function, argument).map_err(DataflowError::Plan)?;
            let declared = output.schema.field(key.len() + index).data_type();
            if accumulator.output_type() != *declared {
                return invalid(format!(
                    "{} is declared {declared} and computed {}",
                    aggregate.function,
                    accumulator.output_type()
                ));
            }
            // count(*) is what lane 0 counts anyway.
            let counts_rows =
                aggregate.function == "count" && aggregate.argument.is_none() && aggregate.filter.is_none();
            let offset = if counts_rows { 0 } else { width };
            if !counts_rows {
                width += accumulator.lane_count();
            }
            lanes.push(Lanes { accumulator, argument: aggregate.argument, filter: aggregate.filter, offset });
        }
        Ok(GroupFunction { key: key.to_vec(), aggregates: Rc::new(lanes), width })
    }

    /// The contributions of rows `start..start + len` to their groups, row after row, times their diffs.
    pub(crate) fn lanes(&self, updates: &Updates, start: usize, len: usize, lanes: &mut Vec<i128>) {
        let width = self.width;
        lanes.clear();
        if width == 1 {
            return lanes.extend((start..start + len).map(|row| updates.diffs.get(row) as i128));
        }
        lanes.resize(len * width, 0);
        for row in lanes.chunks_exact_mut(width) {
            row[0] = 1;
        }
        for aggregate in self.aggregates.iter().filter(|aggregate| aggregate.offset > 0) {
            let part = |column: usize| updates.columns[column].slice(start, len);
            let argument = aggregate.argument.map(part);
            let filter = aggregate.filter.map(part);
            let filter = filter.as_ref().map(|filter| filter.as_boolean());
            aggregate.accumulator.contributions(argument.as_ref(), filter, len, lanes, width, aggregate.offset);
        }
        if updates.diffs == Lane::Constant(1, updates.len()) {
            return;
        }
        for (row, lanes) in lanes.chunks_exact_mut(width).enumerate() {
            let diff = updates.diffs.get(start + row) as i128;
            lanes.iter_mut().for_each(|lane| *lane = lane.wrapping_mul(diff));
        }
    }

    /// The groups' rows from their keys and accumulators; those that cannot be finished become `errors` of `operator`.
    pub(crate) fn finish(
        &self,
        operator: &str,
        keys: Vec<ArrayRef>,
        states: &[i128],
        mut times: Lane<Timestamp>,
        mut diffs: Lane<Diff>,
        errors: &mut ErrorUpdates,
    ) -> Updates {
        let len = times.len();
        let mut columns = keys.clone();
        let mut failures: Vec<(usize, PgError)> = Vec::new();
        for aggregate in self.aggregates.iter() {
            let (values, failed) = aggregate.accumulator.finish(states, self.width, aggregate.offset, len);
            columns.push(values);
            failures.extend(failed);
        }
        if !failures.is_empty() {
            failures.sort_by_key(|failure| failure.0);
            failures.dedup_by_key(|failure| failure.0);
            let mut kept = vec![true; len];
            for (row, error) in &failures {
                kept[*row] = false;
                let error = ErrorRow::new(operator, &keys, *row, error);
                errors.push((error, times.get(*row), diffs.get(*row)));
            }
            let kept = BooleanArray::from(kept);
            let count = kept.true_count();
            let keep = |column: &ArrayRef| filter(column.as_ref(), &kept).expect("a mask as long as the column");
            columns = columns.iter().map(keep).collect();
            times = filter_lane(times, &kept, count);
            diffs = filter_lane(diffs, &kept, count);
        }
        Updates::new(columns, times, diffs)
    }
}

/// Whether there are fewer groups than rows, by more than looking for them costs. All rows of a few groups are counted, chosen by
/// hash, rather than the first rows of all: a row's windows follow one another, all of them different, and come again with
/// the next row.
fn adds_up(keys: &[u64], times: &Lane<Timestamp>) -> bool {
    if keys.len() <= SAMPLE_ROWS {
        return true;
    }
    // Workers and chunks divide the hashes by their lowest and highest bits.
    let mask = (keys.len() / SAMPLE_ROWS).next_power_of_two() as u64 - 1;
    let mut groups: HashTable<u32> = HashTable::with_capacity(SAMPLE_ROWS);
    let mut row_count = 0;
    for (row, key) in keys.iter().enumerate().filter(|(_, key)| (*key >> 24) & mask == 0) {
        row_count += 1;
        let same = |other: &u32| keys[*other as usize] == *key && times.get(*other as usize) == times.get(row);
        if groups.find(*key, same).is_none() {
            groups.insert_unique(*key, row as u32, |other| keys[*other as usize]);
        }
    }
    groups.len() * 16 <= row_count * 15
}

/// The rows as group keys with accumulators for diffs, hashed, and added up where that makes them fewer.
pub(crate) fn contributions(rows: Rows<'_>, function: GroupFunction) -> Rows<'_> {
    let mut lanes = Vec::new();
    stateless(rows, "Accumulate", move |updates| {
        let len = updates.len();
        let columns: Vec<ArrayRef> = function.key.iter().map(|column| updates.columns[*column].clone()).collect();
        let keys = hash_columns(&columns, len, KEY_SEED);
        let rows = hash_columns(&columns, len, ROW_SEED);
        let times = &updates.times;
        let adds_up = adds_up(&keys, times);
        // Groups by number: the first row of each, and what its rows add up to.
        let mut groups: HashTable<u32> = HashTable::with_capacity(SAMPLE_ROWS.min(len));
        let mut firsts: Vec<u32> = Vec::new();
        let mut sums: Vec<i128> = Vec::new();
        let width = function.width;
        for start in (0..len).step_by(SLICE_ROWS) {
            let end = len.min(start + SLICE_ROWS);
            function.lanes(&updates, start, end - start, &mut lanes);
            if !adds_up {
                firsts.extend(start as u32..end as u32);
                sums.extend_from_slice(&lanes);
                continue;
            }
            for (row, lanes) in (start..end).zip(lanes.chunks_exact(width)) {
                let same = |group: &u32| {
                    let first = firsts[*group as usize] as usize;
                    keys[first] == keys[row] && rows[first] == rows[row] && times.get(first) == times.get(row)
                };
                match groups.find(keys[row], same) {
                    Some(group) => add_lanes(&mut sums[*group as usize * width..][..width], lanes),
                    None => {
                        let group = firsts.len() as u32;
                        firsts.push(row as u32);
                        sums.extend_from_slice(lanes);
                        groups.insert_unique(keys[row], group, |group| keys[firsts[*group as usize] as usize]);
                    }
                }
            }
        }
        let accumulators = Some(Accumulators { width, values: sums });
        if firsts.len() == len {
            let diffs = Lane::Constant(1, len);
            return Updates {
                columns,
                times: updates.times,
                diffs,
                accumulators,
                key_hashes: keys,
                row_hashes: rows,
                ranks: Vec::new(),
            };
        }
        let numbers = |lane: &[u64]| firsts.iter().map(|row| lane[*row as usize]).collect::<Vec<_>>();
        let (key_hashes, row_hashes) = (numbers(&keys), numbers(&rows));
        let times = take_lane(times, &firsts);
        let diffs = Lane::Constant(1, firsts.len());
        let indices = UInt32Array::from(firsts);
        let columns = columns.iter().map(|column| take_rows(column, &indices)).collect();
        Updates { columns, times, diffs, accumulators, key_hashes, row_hashes, ranks: Vec::new() }
    })
}

/// Turns changes of groups' accumulators into changes of their output rows.
pub(crate) struct Reduce {
    function: GroupFunction,
    operator: String,
}

impl Reduce {
    /// `operator` names it in errors.
    pub(crate) fn new(function: GroupFunction, operator: String) -> Reduce {
        Reduce { function, operator }
    }

    /// Cuts a container from the states that wait; those that cannot be finished become errors.
    fn flush(&self, waiting: &mut Waiting, output: &mut Output) {
        if waiting.times.is_empty() {
            return;
        }
        let keys = (0..self.function.key.len()).map(|column| waiting.picked.column(column)).collect();
        let times = Lane::Values(std::mem::take(&mut waiting.times)).compress();
        let diffs = Lane::Values(std::mem::take(&mut waiting.diffs)).compress();
        let updates = self.function.finish(&self.operator, keys, &waiting.states, times, diffs, &mut output.errors);
        if !updates.is_empty() {
            output.updates.push(updates);
        }
        waiting.states.clear();
        waiting.picked.clear();
    }
}

/// Output rows whose aggregates are not finished yet.
#[derive(Default)]
struct Waiting {
    picked: Picked,
    times: Vec<Timestamp>,
    diffs: Vec<Diff>,
    states: Vec<i128>,
}

impl Waiting {
    fn push(&mut self, batches: &[Batch], place: Place, time: Timestamp, diff: Diff, state: &[i128]) {
        let row = self.picked.locate(batches, place);
        self.picked.rows.push(row);
        self.times.push(time);
        self.diffs.push(diff);
        self.states.extend_from_slice(state);
    }
}

impl BatchLogic for Reduce {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut before = Cursor::new(prior.to_vec());
        let batches = std::slice::from_ref(novel);
        let mut waiting = Waiting::default();
        let mut state = vec![0i128; self.function.width];
        let mut old = state.clone();
        let mut at = Position::default();
        while at.key(&novel.chunks).is_some() {
            let identity = novel.chunks[at.chunk].identity(at.row);
            let place = Place { batch: 0, chunk: at.chunk as u32, row: at.row as u32 };
            state_before(&mut before, identity.0, identity.2, &mut state);
            loop {
                let time = novel.chunks[at.chunk].time(at.row).max(as_of);
                old.copy_from_slice(&state);
                while at.key(&novel.chunks).is_some() {
                    let chunk = &novel.chunks[at.chunk];
                    if chunk.identity(at.row) != identity || chunk.time(at.row).max(as_of) != time {
                        break;
                    }
                    if let Weight::Lanes(lanes) = chunk.weight(at.row) {
                        add_lanes(&mut state, lanes);
                    }
                    at.step(&novel.chunks);
                }
                if old != state {
                    for (state, diff) in [(&old, -1), (&state, 1)] {
                        if state[0] > 0 {
                            waiting.push(batches, place, time, diff, state);
                        }
                    }
                }
                let same = at.key(&novel.chunks).is_some() && novel.chunks[at.chunk].identity(at.row) == identity;
                if !same {
                    break;
                }
            }
            if waiting.times.len() >= CHUNK_ROWS_MAX {
                self.flush(&mut waiting, output);
            }
        }
        self.flush(&mut waiting, output);
    }
}

/// Adds up a group's accumulators over all batches of `cursor`, which only moves forward.
fn state_before(cursor: &mut Cursor, key: u64, row: u64, state: &mut [i128]) {
    state.fill(0);
    cursor.seek(key);
    for (batch, position) in cursor.batches.iter().zip(&cursor.positions) {
        let mut at = *position;
        while at.key(&batch.chunks) == Some(key) {
            let chunk = &batch.chunks[at.chunk];
            if chunk.row_hash(at.row) == row
                && let Weight::Lanes(lanes) = chunk.weight(at.row)
            {
                add_lanes(state, lanes);
            }
            at.step(&batch.chunks);
        }
    }
}
