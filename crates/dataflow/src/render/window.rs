//! Window functions: a partition that changes is evaluated as it was and as it is, and what differs is put out.
//!
//! Rows are arranged as for a top-k, by (partition, rank, row), so that a partition is read in nearly its order. The
//! functions are DataFusion's window expressions, the same that run in a SELECT, over the rows of one partition sorted by
//! the window's order and then by (rank, hash): equal rows stand beside each other, each with values of its own.
//!
//! ```text
//! changed partition --> segment before, segment after --> gathered, sorted --> evaluated a segment --> differences
//! ```
//!
//! Segments of many partitions are gathered and compared together, a column at a time. A large partition is kept in
//! [`blocks`], and only the stretches that a change can alter are evaluated, where the functions allow it.

mod blocks;
mod function;
mod sorted;

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_empty_array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{concat, or};
use plan::dataflow_plan::SortKey;
use repr::{Diff, Lane, PgError, Timestamp};

pub(crate) use function::Functions;

use super::group::{ChangedGroup, Live, Picked, changed_groups};
use super::{BatchLogic, Output};
use crate::arrange::Batch;
use crate::chunk::{CHUNK_ROWS_MAX, Column};
use crate::compare::compare_values;
use crate::errors::ErrorRow;
use crate::updates::{Updates, take_rows};
use blocks::{Blocks, Region, is_large};
use function::Partial;
use sorted::Sorted;

/// Rows that wait before they are evaluated together.
const WAITING_ROWS: usize = 2 * CHUNK_ROWS_MAX;

/// The operator's logic.
pub(crate) struct Window {
    key: Vec<usize>,
    functions: Functions,
    operator: String,
    /// The large partitions, by the hash of the key.
    large: HashMap<u64, Vec<Large>>,
}

/// A large partition.
struct Large {
    /// One row of the key's columns.
    key: Vec<Column>,
    blocks: Blocks,
}

impl Window {
    /// `operator` names it in errors.
    pub(crate) fn new(key: Vec<usize>, functions: Functions, operator: String) -> Window {
        Window { key, functions, operator, large: HashMap::new() }
    }

    /// What the arrangement should rank rows by.
    pub(crate) fn first_sort_key(&self) -> Option<SortKey> {
        self.functions.order().first().cloned()
    }
}

impl BatchLogic for Window {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut batches = prior.to_vec();
        batches.push(novel.clone());
        let Window { key, functions, operator, large } = self;
        let mut work = Work::new(&batches, functions, operator);
        changed_groups(&batches, key, as_of, |group| {
            let blocks = take_blocks(large, &group, key);
            if let Some(blocks) = work.change(&group, blocks, as_of, output) {
                let key = key.iter().map(|column| {
                    let (column, row) = group.sample.value(&batches, *column);
                    // Never a slice: that would keep the rest.
                    Column::Plain(take_rows(&column.single(row), &UInt32Array::from(vec![0])))
                });
                large.entry(group.hash).or_default().push(Large { key: key.collect(), blocks });
            }
            if work.rows.len() >= WAITING_ROWS {
                work.finish(output);
            }
        });
        work.finish(output);
    }
}

/// The group's blocks, if it has any.
fn take_blocks(large: &mut HashMap<u64, Vec<Large>>, group: &ChangedGroup<'_>, key: &[usize]) -> Option<Blocks> {
    let known = large.get_mut(&group.hash)?;
    let is_group = |large: &Large| {
        large.key.iter().zip(key).all(|(value, column)| {
            let (column, row) = group.sample.value(group.batches, *column);
            value.compare(0, column, row, false, true).is_eq()
        })
    };
    let found = known.iter().position(is_group).map(|at| known.swap_remove(at).blocks);
    if known.is_empty() {
        large.remove(&group.hash);
    }
    found
}

/// Rows of one partition as of one time.
struct Segment {
    /// Which of the rows.
    rows: Range<usize>,
    /// What the rows before come to, if this is not all of the partition.
    prefix: Vec<Partial>,
    /// Rows at either end whose values are not to be looked at.
    margins: (usize, usize),
}

/// What becomes of one segment at a time.
struct Task {
    before: usize,
    after: usize,
    time: Timestamp,
}

/// One copy of a row, before and after: where its values are.
struct Copy {
    row: usize,
    before: Option<u32>,
    after: Option<u32>,
    time: Timestamp,
}

/// Segments that wait to be evaluated.
struct Work<'a> {
    batches: &'a [Batch],
    functions: &'a Functions,
    operator: &'a str,
    rows: Vec<Live>,
    segments: Vec<Segment>,
    tasks: Vec<Task>,
}

impl<'a> Work<'a> {
    fn new(batches: &'a [Batch], functions: &'a Functions, operator: &'a str) -> Work<'a> {
        Work { batches, functions, operator, rows: Vec::new(), segments: Vec::new(), tasks: Vec::new() }
    }

    /// Takes in what changes in a group at each time. Returns its blocks, if it is large.
    fn change(
        &mut self,
        group: &ChangedGroup<'_>,
        mut blocks: Option<Blocks>,
        as_of: Timestamp,
        output: &mut Output,
    ) -> Option<Blocks> {
        let mut until = None;
        let mut before: Option<usize> = None;
        for time in group.times.iter().copied() {
            if let Some(known) = &mut blocks {
                match self.change_part(group, known, (until, time), as_of, output) {
                    Ok(still_large) => {
                        until = Some(time);
                        if !still_large {
                            blocks = None;
                        }
                        continue;
                    }
                    // Some row fails: then the partition does, which only looking at all of it can say of later times.
                    Err(_) => blocks = None,
                }
            }
            let from = match (before, until) {
                (Some(segment), _) => segment,
                (None, None) if group.is_new() => self.segment(std::iter::empty()),
                (None, until) => self.segment(group.rows(until)),
            };
            let after = self.segment(group.rows(Some(time)));
            self.tasks.push(Task { before: from, after, time });
            before = Some(after);
            until = Some(time);
        }
        let Some(last) = before.filter(|_| self.functions.is_divisible()) else { return blocks };
        let rows = self.rows[self.segments[last].rows.clone()].to_vec();
        if !is_large(rows.iter().map(|row| row.count as usize).sum()) || !self.finish(output) {
            return None;
        }
        Blocks::new(self.functions, self.batches, &rows).ok().flatten()
    }

    /// Puts out what changes between two times in a partition of which only some stretches are looked at. Returns whether
    /// it still has blocks.
    ///
    /// Errors: those of any row; nothing has been put out then.
    fn change_part(
        &self,
        group: &ChangedGroup<'_>,
        blocks: &mut Blocks,
        (until, time): (Option<Timestamp>, Timestamp),
        as_of: Timestamp,
        output: &mut Output,
    ) -> Result<bool, PgError> {
        let touched = blocks.touched(&group.ranks_changed(time, as_of));
        let mut rows: Vec<Live> = Vec::new();
        let mut ranges = Vec::new();
        for index in &touched {
            let start = rows.len();
            rows.extend(group.rows_between(Some(time), blocks.ranks(*index..*index + 1)));
            ranges.push(start..rows.len());
        }
        let change = blocks.change(self.functions, self.batches, &touched, &rows, &ranges)?;
        let mut part = Work::new(self.batches, self.functions, self.operator);
        for Region { ranks, prefixes: [old, new], margins } in blocks.regions(self.functions, &change)? {
            let before = part.part(group.rows_between(until, ranks), old, margins);
            let after = part.part(group.rows_between(Some(time), ranks), new, margins);
            part.tasks.push(Task { before, after, time });
        }
        let evaluated = part.evaluate();
        if let Some((_, error)) = evaluated.failures.iter().flatten().next() {
            return Err(error.clone());
        }
        part.put_out(&evaluated, output);
        blocks.apply(self.functions, change)
    }

    /// All of a partition.
    fn segment(&mut self, rows: impl Iterator<Item = Live>) -> usize {
        self.part(rows, Vec::new(), (0, 0))
    }

    fn part(&mut self, rows: impl Iterator<Item = Live>, prefix: Vec<Partial>, margins: (usize, usize)) -> usize {
        let start = self.rows.len();
        self.rows.extend(rows);
        self.segments.push(Segment { rows: start..self.rows.len(), prefix, margins });
        self.segments.len() - 1
    }

    /// Evaluates what waits and puts out the differences. Returns whether the last segment was evaluated.
    fn finish(&mut self, output: &mut Output) -> bool {
        let mut succeeded = true;
        if !self.tasks.is_empty() {
            let evaluated = self.evaluate();
            self.put_out(&evaluated, output);
            succeeded = evaluated.failures.last().is_some_and(Option::is_none);
        }
        self.rows.clear();
        self.segments.clear();
        self.tasks.clear();
        succeeded
    }

    fn evaluate(&self) -> Evaluated {
        let functions = self.functions;
        let ranges: Vec<Range<usize>> = self.segments.iter().map(|segment| segment.rows.clone()).collect();
        let sorted = Sorted::new(functions, self.batches, &self.rows, &ranges);
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); functions.types().len()];
        let mut failures = Vec::with_capacity(self.segments.len());
        for (index, segment) in self.segments.iter().enumerate() {
            let range = sorted.bounds[index].clone();
            let Some(first) = sorted.firsts[index] else {
                failures.push(None);
                continue;
            };
            let (values, failure) = match functions.evaluate(&sorted.columns, range.clone(), &segment.prefix) {
                Ok(values) => (values, None),
                // The first row is the one that the error is shown with.
                Err(error) => (functions.nulls(range.len()), Some((first, error))),
            };
            failures.push(failure);
            for (part, values) in parts.iter_mut().zip(values) {
                part.push(values);
            }
        }
        let values = parts.iter().zip(functions.types()).map(|(parts, data_type)| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_ref()).collect();
            match parts.is_empty() {
                true => new_empty_array(data_type),
                false => concat(&parts).expect("parts of one column"),
            }
        });
        Evaluated { values: values.collect(), starts: sorted.starts, bounds: sorted.bounds, failures }
    }

    /// The copies of the rows of each task, those before beside those after. Failures that come and go become errors.
    fn copies(&self, evaluated: &Evaluated, output: &mut Output) -> Vec<Copy> {
        let mut copies = Vec::new();
        for task in &self.tasks {
            for (segment, diff) in [(task.before, -1), (task.after, 1)] {
                if let Some((row, error)) = &evaluated.failures[segment] {
                    let error = self.error(*row, error);
                    output.errors.push((error, task.time, diff));
                }
            }
            let range = |segment: usize| match evaluated.failures[segment] {
                None => self.segments[segment].rows.clone(),
                Some(_) => 0..0,
            };
            let (mut old, mut new) = (range(task.before), range(task.after));
            let shown = |segment: usize| {
                let (bounds, margins) = (&evaluated.bounds[segment], self.segments[segment].margins);
                (bounds.start + margins.0) as u32..bounds.end.saturating_sub(margins.1) as u32
            };
            let (shown_before, shown_after) = (shown(task.before), shown(task.after));
            loop {
                let (left, right) = (self.rows.get(old.start), self.rows.get(new.start));
                let left = left.filter(|_| !old.is_empty()).map(|row| (row.rank, row.hash));
                let right = right.filter(|_| !new.is_empty()).map(|row| (row.rank, row.hash));
                let (takes_old, takes_new) = match (left, right) {
                    (None, None) => break,
                    (Some(left), Some(right)) => (left <= right, right <= left),
                    (left, right) => (left.is_some(), right.is_some()),
                };
                let row = if takes_new { new.start } else { old.start };
                let side = |takes: bool, range: &mut Range<usize>| match takes {
                    false => (0, 0),
                    true => {
                        range.start += 1;
                        (evaluated.starts[range.start - 1], self.rows[range.start - 1].count as u32)
                    }
                };
                let (before, after) = (side(takes_old, &mut old), side(takes_new, &mut new));
                for copy in 0..before.1.max(after.1) {
                    let of = |(start, count): (u32, u32), shown: &Range<u32>| {
                        (copy < count).then_some(start + copy).filter(|at| shown.contains(at))
                    };
                    let (before, after) = (of(before, &shown_before), of(after, &shown_after));
                    if before.is_some() || after.is_some() {
                        copies.push(Copy { row, before, after, time: task.time });
                    }
                }
            }
        }
        copies
    }

    fn error(&self, row: usize, error: &PgError) -> ErrorRow {
        let place = self.rows[row].place;
        let (source, at) = place.chunk(self.batches).locate(place.row as usize);
        let values: Vec<ArrayRef> = source.columns().iter().map(|column| column.single(at)).collect();
        ErrorRow::new(self.operator, &values, 0, error)
    }

    /// Puts out the copies whose values differ.
    fn put_out(&self, evaluated: &Evaluated, output: &mut Output) {
        let copies = self.copies(evaluated, output);
        let differs = evaluated.differ(&copies);
        let mut picked = Picked::default();
        let mut positions: Vec<u32> = Vec::new();
        let mut times: Vec<Timestamp> = Vec::new();
        let mut diffs: Vec<Diff> = Vec::new();
        let changed = copies.iter().zip(differs).filter(|(_, differs)| *differs);
        let sides = changed.flat_map(|(copy, _)| {
            [(copy.before, -1), (copy.after, 1)].map(|(side, diff)| side.map(|position| (copy, position, diff)))
        });
        let mut sides = sides.flatten().peekable();
        while let Some((copy, position, diff)) = sides.next() {
            let location = picked.locate(self.batches, self.rows[copy.row].place);
            picked.rows.push(location);
            positions.push(position);
            times.push(copy.time);
            diffs.push(diff);
            if positions.len() >= CHUNK_ROWS_MAX || sides.peek().is_none() {
                let mut columns = picked.columns();
                let positions = UInt32Array::from(std::mem::take(&mut positions));
                columns.extend(evaluated.values.iter().map(|values| take_rows(values, &positions)));
                let times = Lane::Values(std::mem::take(&mut times)).compress();
                let diffs = Lane::Values(std::mem::take(&mut diffs)).compress();
                output.updates.push(Updates::new(columns, times, diffs));
                picked.clear();
            }
        }
    }
}

/// The values of all segments, one after the other.
struct Evaluated {
    /// A column a call.
    values: Vec<ArrayRef>,
    /// Of each row, where the values of its first copy are; those of the others follow.
    starts: Vec<u32>,
    /// Of each segment, where its values are.
    bounds: Vec<Range<usize>>,
    /// Of each segment, the error it failed with, and the row to show with it.
    failures: Vec<Option<(usize, PgError)>>,
}

impl Evaluated {
    /// Of each copy, whether it came, went, or has other values than before.
    fn differ(&self, copies: &[Copy]) -> Vec<bool> {
        let both = || copies.iter().filter_map(|copy| Some((copy.before?, copy.after?)));
        let before = UInt32Array::from_iter_values(both().map(|pair| pair.0));
        let after = UInt32Array::from_iter_values(both().map(|pair| pair.1));
        let mut differ = BooleanArray::from(vec![false; before.len()]);
        for values in &self.values {
            let (before, after) = (take_rows(values, &before), take_rows(values, &after));
            // Arrow compares no lists.
            let found = distinct(&before, &after).unwrap_or_else(|_| {
                let differ = |row| compare_values(&before, row, &after, row, false, false).is_ne();
                BooleanArray::from_iter((0..before.len()).map(|row| Some(differ(row))))
            });
            differ = or(&differ, &found).expect("masks of one length");
        }
        let mut of_both = differ.iter();
        let differs = copies.iter().map(|copy| match (copy.before, copy.after) {
            (Some(_), Some(_)) => of_both.next().flatten().unwrap_or(true),
            _ => true,
        });
        differs.collect()
    }
}
