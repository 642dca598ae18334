//! ORDER STATISTIC: exact percentiles, found by counting instead of by sorting.
//!
//! Rows are arranged by (group, rank, row), the rank being an order-preserving prefix of the value. How many rows lie below a
//! rank is a sum of diffs over a beginning of the group in each batch; diffs add up whatever retracts what, so nothing is
//! merged or read for it. The rank that holds the k-th row is found by halving, each batch looking only at the stretch that is
//! still in question: a change costs O(log n) comparisons and sums over a few chunks, not its group. Rows of that one rank are
//! then put in order by value.
//!
//! Counting cannot tell keys apart that share a hash. Such a hash is noticed when the second key arrives, and its groups are
//! read row by row from then on.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::datatypes::{DataType, Float64Type};
use plan::dataflow_plan::{Node, Percentile, SortKey};
use repr::{Diff, Lane, Timestamp};

use super::group::{ChangedGroup, Live, Picked, Ranks, Stretch, changed_groups};
use super::{BatchLogic, Output};
use crate::DataflowError;
use crate::arrange::Batch;
use crate::chunk::CHUNK_ROWS_MAX;
use crate::updates::{Updates, take_rows};

/// The rank of NULLs, which sort last and do not count.
const NULL_RANK: u64 = u64::MAX;

/// Whether the operator can be built over `input`.
pub(crate) fn check(input: &Node, value: &SortKey, calls: &[Percentile]) -> Result<(), DataflowError> {
    let data_type = input.schema.field(value.column).data_type();
    match calls.iter().any(|call| call.continuous) && *data_type != DataType::Float64 {
        true => Err(DataflowError::InvalidPlan(format!("a continuous percentile of {data_type}"))),
        false => Ok(()),
    }
}

/// Keeps percentiles of each group.
pub(crate) struct OrderStatistic {
    key: Vec<usize>,
    value: SortKey,
    calls: Vec<Percentile>,
    /// Hashes that several keys have had.
    shared_hashes: HashSet<u64>,
}

/// A group's rows in order, as far as they are asked for.
enum Ordered<'a> {
    Counted(Counted<'a>),
    /// The rows themselves, without NULLs.
    Read(Vec<Live>),
}

/// The parts of a group, one or a few a batch, with the number of rows in each.
struct Counted<'a> {
    parts: Vec<(Stretch<'a>, Diff)>,
}

/// Where a call's answer lies: two neighbours, and how far it is from the first to the second.
struct Between {
    low: Live,
    high: Live,
    share: f64,
}

impl OrderStatistic {
    pub(crate) fn new(key: Vec<usize>, value: SortKey, calls: Vec<Percentile>) -> OrderStatistic {
        OrderStatistic { key, value, calls, shared_hashes: HashSet::new() }
    }

    /// Reads a group as of a time, or before the batch; None if nothing is there. `is_counted`: no other key has had its hash.
    fn read(
        &self,
        group: &ChangedGroup<'_>,
        until: Option<Timestamp>,
        is_counted: bool,
    ) -> Option<Vec<Option<Between>>> {
        let ordered = match is_counted {
            false => {
                let rows: Vec<Live> = group.rows(until).collect();
                if rows.is_empty() {
                    return None;
                }
                let mut rows: Vec<Live> = rows.into_iter().filter(|live| live.rank != NULL_RANK).collect();
                rows.sort_by(|left, right| self.compare(group.batches, left, right));
                Ordered::Read(rows)
            }
            true => {
                let counted = Counted::new(group, until);
                if counted.parts.iter().map(|(_, count)| count).sum::<Diff>() == 0 {
                    return None;
                }
                Ordered::Counted(counted)
            }
        };
        let present = match &ordered {
            Ordered::Read(rows) => rows.iter().map(|live| live.count).sum(),
            Ordered::Counted(counted) => counted.below(NULL_RANK),
        };
        let answers = self.calls.iter().map(|call| {
            let last = u64::try_from(present).ok()?.checked_sub(1)?;
            let place = match call.continuous {
                true => call.fraction * last as f64,
                false => (call.fraction * present as f64).ceil().max(1.0) - 1.0,
            };
            let low = self.nth(&ordered, group, until, place.floor() as Diff)?;
            let high = match place.fract() > 0.0 {
                true => self.nth(&ordered, group, until, place.ceil() as Diff)?,
                false => low,
            };
            Some(Between { low, high, share: place.fract() })
        });
        Some(answers.collect())
    }

    /// The row that has `skipped` rows before it.
    fn nth(
        &self,
        ordered: &Ordered<'_>,
        group: &ChangedGroup<'_>,
        until: Option<Timestamp>,
        skipped: Diff,
    ) -> Option<Live> {
        match ordered {
            Ordered::Read(rows) => after(rows, skipped),
            Ordered::Counted(counted) => {
                let (rank, below) = counted.rank_of(skipped)?;
                let ranks = Ranks { start: rank, end: rank.checked_add(1) };
                let mut rows: Vec<Live> = group.rows_between(until, ranks).collect();
                rows.sort_by(|left, right| self.compare(group.batches, left, right));
                after(&rows, skipped - below)
            }
        }
    }

    /// By the value; values that are equal in order without being the same, by hash.
    fn compare(&self, batches: &[Batch], left: &Live, right: &Live) -> Ordering {
        let SortKey { column, descending, nulls_first } = self.value;
        let ((a, i), (b, j)) = (left.place.value(batches, column), right.place.value(batches, column));
        a.compare(i, b, j, descending, nulls_first).then(left.hash.cmp(&right.hash))
    }

    fn flush(&self, states: &mut States, output: &mut Output) {
        if states.changes.is_empty() {
            return states.clear();
        }
        let changed = |state: &dyn Fn(usize) -> Option<u32>| {
            UInt32Array::from_iter(states.changes.iter().map(|(index, ..)| state(*index)))
        };
        let samples = changed(&|state| Some(states.samples[state] as u32));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.key.len() + self.calls.len());
        columns.extend(self.key.iter().map(|column| take_rows(&states.rows.column(*column), &samples)));
        let values = states.rows.column(self.value.column);
        for (number, call) in self.calls.iter().enumerate() {
            let answer = |state: usize| states.answers[state * self.calls.len() + number];
            let low = take_rows(&values, &changed(&|state| answer(state).map(|answer| answer.0 as u32)));
            if !call.continuous {
                columns.push(low);
                continue;
            }
            let high = take_rows(&values, &changed(&|state| answer(state).map(|answer| answer.1 as u32)));
            let shares = states.changes.iter().map(|(state, ..)| answer(*state).map_or(0.0, |answer| answer.2));
            columns.push(between(&low, &high, shares));
        }
        let times = Lane::Values(states.changes.iter().map(|change| change.1).collect()).compress();
        let diffs = Lane::Values(states.changes.iter().map(|change| change.2).collect()).compress();
        output.updates.push(Updates::new(columns, times, diffs));
        states.clear();
    }
}

/// PostgreSQL's interpolation; the value itself where there is nothing to interpolate.
fn between(low: &ArrayRef, high: &ArrayRef, shares: impl Iterator<Item = f64>) -> ArrayRef {
    let (low, high) = (low.as_primitive::<Float64Type>(), high.as_primitive::<Float64Type>());
    let values = low.iter().zip(high).zip(shares).map(|((low, high), share)| match (low, high) {
        (Some(low), Some(high)) if share > 0.0 => Some(low + share * (high - low)),
        (low, _) => low,
    });
    Arc::new(Float64Array::from_iter(values))
}

/// The row of `rows` that has `skipped` copies before it.
fn after(rows: &[Live], mut skipped: Diff) -> Option<Live> {
    for live in rows {
        if skipped < live.count {
            return Some(*live);
        }
        skipped -= live.count;
    }
    None
}

impl<'a> Counted<'a> {
    fn new(group: &ChangedGroup<'a>, until: Option<Timestamp>) -> Counted<'a> {
        let parts = group.stretches(until).into_iter().map(|stretch| {
            let count = stretch.count(stretch.start, stretch.end);
            (stretch, count)
        });
        Counted { parts: parts.collect() }
    }

    /// The number of rows of a smaller rank.
    fn below(&self, rank: u64) -> Diff {
        let below = |(stretch, count): &(Stretch<'_>, Diff)| match stretch.seek(rank) {
            at if at == stretch.end => *count,
            at => stretch.count(stretch.start, at),
        };
        self.parts.iter().map(below).sum()
    }

    /// The rank of the row that has `skipped` rows before it, and how many rows have a smaller rank.
    fn rank_of(&self, skipped: Diff) -> Option<(u64, Diff)> {
        // What is still in question of each part. Below `low` lie `known` rows, at most as many as are skipped.
        let mut open: Vec<Stretch<'_>> = self.parts.iter().map(|(stretch, _)| *stretch).collect();
        let (mut low, mut high, mut known) = (0u64, NULL_RANK, 0);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let places: Vec<usize> = open.iter().map(|stretch| stretch.seek(middle)).collect();
            let between: Diff =
                open.iter().zip(&places).map(|(stretch, place)| stretch.count(stretch.start, *place)).sum();
            let is_above = known + between <= skipped;
            for (stretch, place) in open.iter_mut().zip(places) {
                if is_above { stretch.start = place } else { stretch.end = place }
            }
            if is_above {
                (low, known) = (middle, known + between);
            } else {
                high = middle;
            }
            open.retain(|stretch| stretch.start < stretch.end);
        }
        (!open.is_empty()).then_some((low, known))
    }
}

/// States of groups that wait to be put out.
#[derive(Default)]
struct States {
    rows: Picked,
    /// Of each state, a row of its group.
    samples: Vec<usize>,
    /// Of each state and call, the rows that its answer lies between, and where; none where there is no value.
    answers: Vec<Option<(usize, usize, f64)>>,
    /// When which state comes or goes.
    changes: Vec<(usize, Timestamp, Diff)>,
}

impl States {
    fn add(&mut self, group: &ChangedGroup<'_>, answers: Vec<Option<Between>>) -> usize {
        let mut row = |place| {
            let row = self.rows.locate(group.batches, place);
            self.rows.rows.push(row);
            self.rows.rows.len() - 1
        };
        self.samples.push(row(group.sample));
        let answers = answers.into_iter();
        let found =
            answers.map(|answer| answer.map(|Between { low, high, share }| (row(low.place), row(high.place), share)));
        self.answers.extend(found);
        self.samples.len() - 1
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.samples.clear();
        self.answers.clear();
        self.changes.clear();
    }
}

impl BatchLogic for OrderStatistic {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut batches = prior.to_vec();
        batches.push(novel.clone());
        let mut states = States::default();
        let mut shared_hashes = std::mem::take(&mut self.shared_hashes);
        changed_groups(&batches, &self.key, as_of, |group| {
            if group.shares_its_hash() {
                shared_hashes.insert(group.hash);
            }
            let is_counted = !shared_hashes.contains(&group.hash);
            let mut before = match group.is_new() {
                true => None,
                false => self.read(&group, None, is_counted).map(|answers| states.add(&group, answers)),
            };
            for time in group.times {
                let now = self.read(&group, Some(*time), is_counted).map(|answers| states.add(&group, answers));
                states.changes.extend(before.map(|state| (state, *time, -1)));
                states.changes.extend(now.map(|state| (state, *time, 1)));
                before = now;
            }
            if states.rows.rows.len() >= CHUNK_ROWS_MAX {
                self.flush(&mut states, output);
            }
        });
        self.flush(&mut states, output);
        self.shared_hashes = shared_hashes;
    }
}
