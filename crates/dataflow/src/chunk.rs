//! Arrow columns as differential-dataflow's `Chunk`: what arrangements are made of.
//!
//! A chunk is a sorted, consolidated run of updates. Order and identity are integers, `(key hash, rank, row hash,
//! time)`; rows only move through `take` and `interleave`, and wide ones hardly ever ([`rows`]). The rank is the order
//! within a key that TOP-K wants, and zero elsewhere.
//!
//! ```text
//! ArrowChunk: [offset, offset + len) of  payload (Arc) : key_hashes | ranks? | row_hashes | rows: columns, or references
//!                                        times         : constant, or one a row (Arc)
//!                                        weights       : constant, one a row, or `width` accumulators a row (Arc)
//! ```
//!
//! Times and weights are apart from the payload, so that compaction, which mostly only moves times forward, copies no
//! row. Times are totally ordered, so rows that become equal by compaction are neighbours already.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use differential_dataflow::trace::chunk::{Chunk, pack};
use repr::{Diff, Lane, Timestamp};
use timely::Accountable;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

use crate::updates::Updates;

mod column;
mod rows;
mod writer;

pub(crate) use column::Column;
use rows::Rows;
pub(crate) use rows::{Source, SourceList};
pub(crate) use writer::{ChunkWriter, add_lanes};
use writer::{compress_times, compress_weights};

/// Most rows of a chunk.
pub(crate) const CHUNK_ROWS_MAX: usize = 8192;

/// Where an update sorts, but for its time: key hash, rank, row hash.
pub(crate) type Identity = (u64, u64, u64);

/// A row's diff: a number of copies, or accumulators.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weight<'a> {
    Copies(Diff),
    Lanes(&'a [i128]),
}

impl Weight<'_> {
    /// The number of copies; an arrangement of accumulators has none.
    #[inline(always)]
    pub(crate) fn copies(self) -> Diff {
        match self {
            Weight::Copies(copies) => copies,
            Weight::Lanes(_) => 0,
        }
    }
}

#[derive(Clone, Debug)]
enum Times {
    Constant(Timestamp),
    Values(Arc<Vec<Timestamp>>),
}

#[derive(Clone, Debug)]
enum Weights {
    Constant(Diff),
    Values(Arc<Vec<Diff>>),
    Lanes(usize, Arc<Vec<i128>>),
}

/// The rows that slices of a chunk share.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    key_hashes: Vec<u64>,
    /// Empty where every rank is zero.
    ranks: Vec<u64>,
    row_hashes: Vec<u64>,
    rows: Rows,
}

/// An immutable slice of sorted, consolidated updates. Cheap to clone; `Send`, so peeks hand it out as it is.
#[derive(Clone, Debug)]
pub struct ArrowChunk {
    payload: Arc<Payload>,
    times: Times,
    weights: Weights,
    offset: u32,
    len: u32,
}

impl Default for ArrowChunk {
    fn default() -> ArrowChunk {
        ArrowChunk {
            payload: Arc::default(),
            times: Times::Constant(0),
            weights: Weights::Constant(1),
            offset: 0,
            len: 0,
        }
    }
}

impl Accountable for ArrowChunk {
    fn record_count(&self) -> i64 {
        self.len as i64
    }
}

impl ArrowChunk {
    /// The number of updates.
    #[inline(always)]
    pub fn row_count(&self) -> usize {
        self.len as usize
    }

    /// This chunk's rows alone; not copied where they lie together.
    pub fn columns(&self) -> Vec<ArrayRef> {
        self.columns_of(0, self.row_count())
    }

    /// The columns of `len` rows from `start` on.
    pub(crate) fn columns_of(&self, start: usize, len: usize) -> Vec<ArrayRef> {
        self.payload.rows.columns(self.offset as usize + start, len)
    }

    /// The number of columns.
    pub(crate) fn column_count(&self) -> usize {
        self.payload.rows.sources().first().map_or(0, |source| source.columns().len())
    }

    /// Where row `row` lies: columns, and the row in them.
    #[inline(always)]
    pub(crate) fn locate(&self, row: usize) -> (&Arc<Source>, usize) {
        let (source, row) = self.source_row(row);
        (&self.payload.rows.sources()[source], row)
    }

    /// The same with the index of the source among the chunk's.
    #[inline(always)]
    pub(crate) fn source_row(&self, row: usize) -> (usize, usize) {
        self.payload.rows.locate(self.offset as usize + row)
    }

    /// Rows of the shared columns that were consolidated away beside these.
    fn gone(&self) -> usize {
        self.payload.rows.gone() * self.row_count() / self.payload.key_hashes.len().max(1)
    }

    /// The time of update `row`.
    #[inline(always)]
    pub fn time(&self, row: usize) -> Timestamp {
        match &self.times {
            Times::Constant(time) => *time,
            Times::Values(times) => times[self.offset as usize + row],
        }
    }

    /// The diff of update `row`; 0 in an arrangement of accumulators.
    #[inline(always)]
    pub fn diff(&self, row: usize) -> Diff {
        self.weight(row).copies()
    }

    /// All times, in order.
    pub fn times(&self) -> Lane<Timestamp> {
        match &self.times {
            Times::Constant(time) => Lane::Constant(*time, self.row_count()),
            Times::Values(times) => Lane::Values(times[self.offset as usize..][..self.row_count()].to_vec()),
        }
    }

    /// All diffs, in order; constant 1 in an arrangement of accumulators.
    pub fn diffs(&self) -> Lane<Diff> {
        match &self.weights {
            Weights::Constant(diff) => Lane::Constant(*diff, self.row_count()),
            Weights::Values(diffs) => Lane::Values(diffs[self.offset as usize..][..self.row_count()].to_vec()),
            Weights::Lanes(..) => Lane::Constant(1, self.row_count()),
        }
    }

    /// The key hashes, ascending.
    pub fn key_hashes(&self) -> &[u64] {
        &self.payload.key_hashes[self.offset as usize..(self.offset + self.len) as usize]
    }

    /// The row hashes.
    pub fn row_hashes(&self) -> &[u64] {
        &self.payload.row_hashes[self.offset as usize..(self.offset + self.len) as usize]
    }

    /// Memory of the shared rows and this chunk's times and diffs. Slices of one payload each count all of it.
    pub fn size_bytes(&self) -> usize {
        let payload = &self.payload;
        let hashes = payload.key_hashes.capacity() + payload.row_hashes.capacity() + payload.ranks.capacity();
        let times = if let Times::Values(times) = &self.times { times.capacity() * 8 } else { 0 };
        let weights = match &self.weights {
            Weights::Constant(_) => 0,
            Weights::Values(diffs) => diffs.capacity() * 8,
            Weights::Lanes(_, lanes) => lanes.capacity() * 16,
        };
        hashes * 8 + times + weights + payload.rows.size_bytes()
    }

    /// The rows as a stream container: columns shared, lanes copied, times no earlier than `as_of`.
    pub fn updates(&self, as_of: Timestamp) -> Updates {
        let times = match self.times() {
            Lane::Constant(time, len) => Lane::Constant(time.max(as_of), len),
            Lane::Values(times) => Lane::Values(times.into_iter().map(|time| time.max(as_of)).collect()).compress(),
        };
        Updates::new(self.columns(), times, self.diffs())
    }

    #[inline(always)]
    pub(crate) fn key_hash(&self, row: usize) -> u64 {
        self.payload.key_hashes[self.offset as usize + row]
    }

    #[inline(always)]
    pub(crate) fn rank(&self, row: usize) -> u64 {
        if self.payload.ranks.is_empty() { 0 } else { self.payload.ranks[self.offset as usize + row] }
    }

    #[inline(always)]
    pub(crate) fn row_hash(&self, row: usize) -> u64 {
        self.payload.row_hashes[self.offset as usize + row]
    }

    /// The sum of the diffs from row `from` up to row `to`; 0 in an arrangement of accumulators.
    pub(crate) fn copies_between(&self, from: usize, to: usize) -> Diff {
        match &self.weights {
            Weights::Constant(diff) => diff * (to - from) as Diff,
            Weights::Values(diffs) => diffs[self.offset as usize + from..self.offset as usize + to].iter().sum(),
            Weights::Lanes(..) => 0,
        }
    }

    #[inline(always)]
    pub(crate) fn identity(&self, row: usize) -> Identity {
        (self.key_hash(row), self.rank(row), self.row_hash(row))
    }

    #[inline(always)]
    pub(crate) fn weight(&self, row: usize) -> Weight<'_> {
        let row = self.offset as usize + row;
        match &self.weights {
            Weights::Constant(diff) => Weight::Copies(*diff),
            Weights::Values(diffs) => Weight::Copies(diffs[row]),
            Weights::Lanes(width, lanes) => Weight::Lanes(&lanes[row * width..(row + 1) * width]),
        }
    }

    fn slice(&self, from: usize, len: usize) -> ArrowChunk {
        ArrowChunk { offset: self.offset + from as u32, len: len as u32, ..self.clone() }
    }

    /// Pins much more memory than it uses.
    fn is_wasteful(&self) -> bool {
        self.row_count() * 4 < self.payload.key_hashes.len() * 3
    }

    fn last(&self) -> (Identity, Timestamp) {
        let row = self.row_count() - 1;
        (self.identity(row), self.time(row))
    }

    fn first(&self) -> (Identity, Timestamp) {
        (self.identity(0), self.time(0))
    }

    /// The same rows with times no earlier than `since`; rows are known to stay distinct.
    fn advanced(self, since: Timestamp) -> ArrowChunk {
        let times = match &self.times {
            Times::Constant(time) => Times::Constant((*time).max(since)),
            Times::Values(times) => {
                let rows = self.offset as usize..(self.offset + self.len) as usize;
                if times[rows.clone()].iter().all(|time| *time >= since) {
                    return self;
                }
                if times[rows].iter().all(|time| *time <= since) {
                    Times::Constant(since)
                } else {
                    Times::Values(Arc::new(times.iter().map(|time| (*time).max(since)).collect()))
                }
            }
        };
        ArrowChunk { times, ..self }
    }
}

/// The first index at or after `start` where `before` no longer holds; cost is logarithmic in the distance.
#[inline]
pub(crate) fn gallop<X>(items: &[X], start: usize, before: impl Fn(&X) -> bool) -> usize {
    let mut position = start;
    if position < items.len() && before(&items[position]) {
        let mut step = 1;
        while position + step < items.len() && before(&items[position + step]) {
            position += step;
            step <<= 1;
        }
        step >>= 1;
        while step > 0 {
            if position + step < items.len() && before(&items[position + step]) {
                position += step;
            }
            step >>= 1;
        }
        position += 1;
    }
    position
}

/// One chunk of all the run's rows, without what slices leave unused.
fn combine(run: &[ArrowChunk]) -> ArrowChunk {
    let len = run.iter().map(ArrowChunk::row_count).sum();
    let mut payload = Payload {
        key_hashes: Vec::with_capacity(len),
        ranks: Vec::new(),
        row_hashes: Vec::with_capacity(len),
        rows: combine_rows(run, len),
    };
    let ranked = run.iter().any(|chunk| !chunk.payload.ranks.is_empty());
    let (mut times, mut diffs, mut lanes, mut width) = (Vec::with_capacity(len), Vec::new(), Vec::new(), 0);
    for chunk in run {
        payload.key_hashes.extend_from_slice(chunk.key_hashes());
        payload.row_hashes.extend_from_slice(chunk.row_hashes());
        if ranked {
            payload.ranks.extend((0..chunk.row_count()).map(|row| chunk.rank(row)));
        }
        let offset = chunk.offset as usize;
        match &chunk.times {
            Times::Constant(time) => times.resize(times.len() + chunk.row_count(), *time),
            Times::Values(values) => times.extend_from_slice(&values[offset..][..chunk.row_count()]),
        }
        match &chunk.weights {
            Weights::Constant(diff) => diffs.resize(diffs.len() + chunk.row_count(), *diff),
            Weights::Values(values) => diffs.extend_from_slice(&values[offset..][..chunk.row_count()]),
            Weights::Lanes(lane_count, values) => {
                width = *lane_count;
                lanes.extend_from_slice(&values[offset * width..][..chunk.row_count() * width]);
            }
        }
    }
    let weights = if width > 0 { Weights::Lanes(width, Arc::new(lanes)) } else { compress_weights(diffs) };
    ArrowChunk { payload: Arc::new(payload), times: compress_times(times), weights, offset: 0, len: len as u32 }
}

fn combine_rows(run: &[ArrowChunk], len: usize) -> Rows {
    if run.iter().any(|chunk| chunk.payload.rows.sources().iter().any(|source| source.is_worth_sharing())) {
        let mut sources = SourceList::default();
        let mut rows = Vec::with_capacity(len);
        for chunk in run {
            rows.extend((0..chunk.row_count()).map(|row| sources.locate(chunk, row)));
        }
        return Rows::new(sources.as_slice(), &rows, run.iter().map(ArrowChunk::gone).sum());
    }
    let parts: Vec<Vec<ArrayRef>> = run.iter().map(ArrowChunk::columns).collect();
    let columns = (0..run[0].column_count()).map(|column| {
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part[column].as_ref()).collect();
        concat(&parts).expect("chunks of one arrangement have the same column types")
    });
    Rows::Own(Source::new(columns.collect(), len, None))
}

impl Chunk for ArrowChunk {
    type Time = Timestamp;
    const TARGET: usize = CHUNK_ROWS_MAX;

    fn len(&self) -> usize {
        self.len as usize
    }

    /// Merges one pair until one side is exhausted: more a call would make a step long.
    fn merge(in1: &mut VecDeque<Self>, in2: &mut VecDeque<Self>, out: &mut VecDeque<Self>) {
        let (Some(a), Some(b)) = (in1.pop_front(), in2.pop_front()) else { return };
        if a.last() < b.first() {
            out.push_back(a);
            in2.push_front(b);
            return;
        }
        if b.last() < a.first() {
            out.push_back(b);
            in1.push_front(a);
            return;
        }
        let (mut i, mut j) = (0, 0);
        let mut writer = ChunkWriter::new(a.row_count() + b.row_count());
        let bases = [writer.add_sources(&a), writer.add_sources(&b)];
        while i < a.row_count() && j < b.row_count() {
            let (x, y) = (a.key_hash(i), b.key_hash(j));
            let order = if x != y {
                x.cmp(&y)
            } else {
                (a.rank(i), a.row_hash(i), a.time(i)).cmp(&(b.rank(j), b.row_hash(j), b.time(j)))
            };
            if order.is_le() {
                writer.push(bases[0], &a, i, a.time(i), out);
                i += 1;
            }
            if order.is_ge() {
                writer.push(bases[1], &b, j, b.time(j), out);
                j += 1;
            }
        }
        writer.flush(out);
        if i < a.row_count() {
            in1.push_front(a.slice(i, a.row_count() - i));
        }
        if j < b.row_count() {
            in2.push_front(b.slice(j, b.row_count() - j));
        }
    }

    fn extract(
        input: &mut VecDeque<Self>,
        frontier: AntichainRef<Timestamp>,
        residual: &mut Antichain<Timestamp>,
        keep: &mut VecDeque<Self>,
        ship: &mut VecDeque<Self>,
    ) {
        let Some(chunk) = input.pop_front() else { return };
        if let Times::Constant(time) = &chunk.times {
            if frontier.less_equal(time) {
                residual.insert(*time);
                keep.push_back(chunk);
            } else {
                ship.push_back(chunk);
            }
            return;
        }
        let kept: Vec<bool> = (0..chunk.row_count()).map(|row| frontier.less_equal(&chunk.time(row))).collect();
        for (row, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            residual.insert(chunk.time(row));
        }
        if kept.iter().all(|kept| *kept) {
            keep.push_back(chunk);
        } else if !kept.contains(&true) {
            ship.push_back(chunk);
        } else {
            for (wanted, queue) in [(true, keep), (false, ship)] {
                let mut writer = ChunkWriter::new(chunk.row_count());
                let base = writer.add_sources(&chunk);
                for (row, _) in kept.iter().enumerate().filter(|(_, kept)| **kept == wanted) {
                    writer.push(base, &chunk, row, chunk.time(row), queue);
                }
                writer.flush(queue);
            }
        }
    }

    /// A chunk whose rows are all different keeps its payload and only gets new times; others are written anew.
    fn advance(input: &mut VecDeque<Self>, frontier: AntichainRef<Timestamp>, done: bool, out: &mut VecDeque<Self>) {
        let since = frontier.first().copied();
        while let Some(chunk) = input.pop_front() {
            // Chunks that share a row at their joint have to be seen together.
            let mut run = vec![chunk];
            while let Some(next) = input.front() {
                let last = &run[run.len() - 1];
                if last.last().0 != next.first().0 {
                    break;
                }
                run.extend(input.pop_front());
            }
            if input.is_empty() && !done {
                run.into_iter().rev().for_each(|chunk| input.push_front(chunk));
                return;
            }
            let Some(since) = since else {
                out.extend(run);
                continue;
            };
            if run.len() == 1 {
                let (hashes, rows) = (run[0].key_hashes(), run[0].row_hashes());
                let twins = (1..hashes.len()).any(|row| hashes[row] == hashes[row - 1] && rows[row] == rows[row - 1]);
                if !twins {
                    out.extend(run.pop().map(|chunk| chunk.advanced(since)));
                    continue;
                }
            }
            let mut writer = ChunkWriter::new(run.iter().map(ArrowChunk::row_count).sum());
            for chunk in &run {
                let base = writer.add_sources(chunk);
                for row in 0..chunk.row_count() {
                    writer.push(base, chunk, row, chunk.time(row).max(since), out);
                }
            }
            writer.flush(out);
        }
    }

    fn settle(input: &mut VecDeque<Self>, done: bool, out: &mut VecDeque<Self>) {
        pack(
            input,
            done,
            out,
            |run| combine(&run),
            |chunk, rows| (chunk.slice(0, rows), chunk.slice(rows, chunk.row_count() - rows)),
            |chunk| if chunk.is_wasteful() { combine(std::slice::from_ref(&chunk)) } else { chunk },
        );
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use differential_dataflow::trace::chunk::{is_graded, merge_chains, settle_all};
    use std::collections::BTreeMap;

    use super::*;
    use crate::chunker::sort;

    fn updates(rows: &[(i64, Timestamp, Diff)]) -> Updates {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let times = Lane::Values(rows.iter().map(|row| row.1).collect()).compress();
        let diffs = Lane::Values(rows.iter().map(|row| row.2).collect()).compress();
        let mut updates = Updates::new(vec![column], times, diffs);
        updates.hash(&[0]);
        updates
    }

    fn chain(rows: &[(i64, Timestamp, Diff)]) -> Vec<ArrowChunk> {
        let mut chunks = VecDeque::new();
        sort(&[updates(rows)], &mut None, &mut chunks);
        settle_all(chunks)
    }

    fn contents(chunks: &[ArrowChunk]) -> BTreeMap<(i64, Timestamp), Diff> {
        let mut contents = BTreeMap::new();
        for chunk in chunks {
            let columns = chunk.columns();
            let values = columns[0].as_primitive::<Int64Type>();
            for row in 0..chunk.row_count() {
                let twin = contents.insert((values.value(row), chunk.time(row)), chunk.diff(row));
                assert_eq!(twin, None, "consolidated");
            }
        }
        contents
    }

    fn is_sorted(chunks: &[ArrowChunk]) -> bool {
        let rows =
            chunks.iter().flat_map(|chunk| (0..chunk.row_count()).map(|row| (chunk.identity(row), chunk.time(row))));
        rows.is_sorted_by(|left, right| left < right)
    }

    /// A fixed sequence of numbers that looks random.
    fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        }
    }

    fn random_rows(seed: u64, count: usize) -> Vec<(i64, Timestamp, Diff)> {
        let mut next = numbers(seed);
        (0..count).map(|_| (next(20_000) as i64, next(4), next(3) as i64 - 1)).collect()
    }

    fn expected(rows: &[(i64, Timestamp, Diff)], since: Timestamp) -> BTreeMap<(i64, Timestamp), Diff> {
        let mut sums = BTreeMap::new();
        for (value, time, diff) in rows {
            *sums.entry((*value, (*time).max(since))).or_default() += diff;
        }
        sums.retain(|_, diff| *diff != 0);
        sums
    }

    #[test]
    fn sorting_merging_and_advancing_agree_with_a_map() {
        let (left, right) = (random_rows(1, 50_000), random_rows(2, 9_000));
        let both: Vec<_> = left.iter().chain(&right).copied().collect();
        let mut merged = VecDeque::new();
        merge_chains(chain(&left), chain(&right), &mut merged);
        let merged = settle_all(merged);
        assert!(is_sorted(&merged) && is_graded(&merged));
        assert_eq!(contents(&merged), expected(&both, 0));
        let mut input: VecDeque<ArrowChunk> = merged.into();
        let mut advanced = VecDeque::new();
        let frontier = Antichain::from_elem(2);
        ArrowChunk::advance(&mut input, frontier.borrow(), false, &mut advanced);
        ArrowChunk::advance(&mut input, frontier.borrow(), true, &mut advanced);
        let advanced = settle_all(advanced);
        assert!(is_sorted(&advanced) && is_graded(&advanced));
        assert_eq!(contents(&advanced), expected(&both, 2));
    }

    #[test]
    fn extracting_splits_by_time() {
        let rows = random_rows(3, 30_000);
        let mut input: VecDeque<ArrowChunk> = chain(&rows).into();
        let (mut keep, mut ship, mut residual) = (VecDeque::new(), VecDeque::new(), Antichain::new());
        let frontier = Antichain::from_elem(2);
        while !input.is_empty() {
            ArrowChunk::extract(&mut input, frontier.borrow(), &mut residual, &mut keep, &mut ship);
        }
        assert_eq!(residual, Antichain::from_elem(2));
        let (early, late): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.1 < 2);
        assert_eq!(contents(&settle_all(ship)), expected(&early, 0));
        assert_eq!(contents(&settle_all(keep)), expected(&late, 0));
    }

    #[test]
    fn rows_without_columns_count() {
        let mut updates = Updates::new(Vec::new(), Lane::Constant(1, 10_000), Lane::Constant(1, 10_000));
        updates.hash(&[]);
        let mut chunks = VecDeque::new();
        sort(&[updates], &mut None, &mut chunks);
        assert_eq!(chunks.iter().map(|chunk| (chunk.row_count(), chunk.diff(0))).collect::<Vec<_>>(), [(1, 10_000)]);
    }
}
