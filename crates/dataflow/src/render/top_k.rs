//! The first rows of each group by an order; MIN and MAX are the first row.
//!
//! Rows are arranged by (group, rank, row), the rank being an order-preserving prefix of the first sort column. So the
//! first rows of a group are read from its start: O(log n + k), wherever in the group a change falls. Rows of one rank
//! are ordered exactly, by value, and only where the limit cuts through them.
//!
//! Where rows only ever arrive, one that is not among the first now will never be: [`render_append_only`] keeps the
//! first rows and nothing else.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::*;
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::chunk::{ChunkBatch, settle_all};
use differential_dataflow::trace::{Description, Span, Trace as _, TraceReader};
use hashbrown::{HashMap, HashTable};
use plan::dataflow_plan::SortKey;
use repr::{Lane, Timestamp};
use smallvec::SmallVec;
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::progress::{Antichain, Stamp};

use super::group::{ChangedGroup, Live, OutputRows, Place, changed_groups};
use super::{BatchLogic, Output, Rows, stateless};
use crate::arrange::{Batch, BatchSpan, Spine, Trace};
use crate::chunk::{ArrowChunk, ChunkWriter, Identity, Weight};
use crate::compare::{compare_values, interval_length};
use crate::updates::Updates;

/// Hashes rows by `key` and ranks them by the first sort column. With `first_only`, leaves out rows that are not of the
/// first rank within their container: right where rows only ever arrive and one a group is wanted.
pub(crate) fn rank(rows: Rows<'_>, key: Vec<usize>, order: Option<SortKey>, first_only: bool) -> Rows<'_> {
    stateless(rows, "Rank", move |mut updates| {
        updates.hash(&key);
        if let Some(order) = &order {
            updates.ranks = ranks(&updates.columns[order.column], order);
        }
        if first_only { first_of_each(updates, &key) } else { updates }
    })
}

/// The rows of the least rank of each group, if all rows are of one time; all rows if nearly all have a
/// group to themselves.
fn first_of_each(updates: Updates, key: &[usize]) -> Updates {
    if !matches!(updates.times, Lane::Constant(..)) || updates.ranks.is_empty() {
        return updates;
    }
    let hashes = &updates.key_hashes;
    let mut groups: HashTable<u32> = HashTable::new();
    // Of each group, a row and the least rank; of each row, its group.
    let mut firsts: Vec<(u32, u64)> = Vec::new();
    let mut group_of: Vec<u32> = Vec::with_capacity(updates.len());
    for (row, rank) in updates.ranks.iter().enumerate() {
        let same = |group: &u32| {
            let first = firsts[*group as usize].0 as usize;
            hashes[first] == hashes[row]
                && key.iter().all(|column| {
                    let column = &updates.columns[*column];
                    compare_values(column, first, column, row, false, false).is_eq()
                })
        };
        match groups.find(hashes[row], same) {
            Some(group) => {
                let least = &mut firsts[*group as usize].1;
                *least = (*least).min(*rank);
                group_of.push(*group);
            }
            None => {
                let group = firsts.len() as u32;
                firsts.push((row as u32, *rank));
                group_of.push(group);
                groups.insert_unique(hashes[row], group, |group| hashes[firsts[*group as usize].0 as usize]);
            }
        }
        if row + 1 == SAMPLE_ROWS && firsts.len() > SAMPLE_ROWS / 16 * 15 {
            return updates;
        }
    }
    let ranked = updates.ranks.iter().zip(&group_of).enumerate();
    let kept = ranked.filter(|(_, (rank, group))| **rank == firsts[**group as usize].1).map(|(row, _)| row as u32);
    updates.take(&UInt32Array::from_iter_values(kept))
}

/// Rows after which that is given up.
const SAMPLE_ROWS: usize = 4096;

/// A number a row, in the order of the sort column: a smaller number is a smaller value, an equal one says nothing.
fn ranks(column: &ArrayRef, order: &SortKey) -> Vec<u64> {
    let len = column.len();
    // Values are ordered within 63 bits, so that NULLs have room before and after them.
    let place = |ordered: u64| 1 + if order.descending { (u64::MAX >> 1) - ordered } else { ordered };
    let null = if order.nulls_first { 0 } else { u64::MAX };
    macro_rules! each {
        (|$row:ident| $ordered:expr) => {
            (0..len)
                .map(|row| {
                    if column.is_null(row) {
                        null
                    } else {
                        let $row = row;
                        place($ordered)
                    }
                })
                .collect()
        };
    }
    macro_rules! integers {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>().values();
            each!(|row| ordered_integer(values[row] as i64))
        }};
    }
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            each!(|row| values.value(row) as u64)
        }
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::Date32 => integers!(Date32Type),
        DataType::Time64(_) => integers!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integers!(TimestampMicrosecondType),
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values();
            each!(|row| ordered_float(values[row] as f64))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            each!(|row| ordered_float(values[row]))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = column.as_primitive::<IntervalMonthDayNanoType>().values();
            each!(|row| ordered_integer(narrow(interval_length(values[row]) / 1000)))
        }
        DataType::Decimal128(_, _) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            each!(|row| ordered_integer(narrow(values[row])))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            each!(|row| ordered_bytes(values.value(row).as_bytes()))
        }
        DataType::LargeUtf8 => {
            let values = column.as_string::<i64>();
            each!(|row| ordered_bytes(values.value(row).as_bytes()))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            each!(|row| ordered_bytes(values.value(row)))
        }
        DataType::LargeBinary => {
            let values = column.as_binary::<i64>();
            each!(|row| ordered_bytes(values.value(row)))
        }
        _ => vec![place(0); len],
    }
}

/// Exact within 62 bits and a sign; beyond, all alike.
fn ordered_integer(value: i64) -> u64 {
    const LIMIT: i64 = 1 << 62;
    (value.clamp(-LIMIT, LIMIT - 1) + LIMIT) as u64
}

/// The nearest number of 64 bits.
fn narrow(value: i128) -> i64 {
    value.clamp(i64::MIN as i128, i64::MAX as i128) as i64
}

/// NaN is the greatest, as in PostgreSQL; the last bit is lost.
fn ordered_float(value: f64) -> u64 {
    let bits = if value.is_nan() { f64::NAN.abs().to_bits() } else { (value + 0.0).to_bits() };
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    ordered >> 1
}

/// The first eight bytes, less a bit.
fn ordered_bytes(bytes: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    let len = bytes.len().min(8);
    prefix[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(prefix) >> 1
}

/// The rows of one group; mostly one.
type Few = SmallVec<[Live; 4]>;

/// Keeps the first rows of each group.
pub(crate) struct TopK {
    key: Vec<usize>,
    order: Vec<SortKey>,
    offset: u64,
    /// One past the last row kept.
    end: u64,
    counting: Counting,
}

/// What is counted up to the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    Rows,
    /// Rows, and those that are equal to the last one in order come too.
    Ranks,
    /// Groups of rows that are equal in order.
    DenseRanks,
}

impl TopK {
    /// Rows `offset..offset + limit` of each group.
    pub(crate) fn new(key: Vec<usize>, order: Vec<SortKey>, offset: u64, limit: Option<u64>) -> TopK {
        let end = limit.map_or(u64::MAX, |limit| offset.saturating_add(limit));
        TopK { key, order, offset, end, counting: Counting::Rows }
    }

    /// Rows of each group whose rank is at most `limit`.
    pub(crate) fn ranks(key: Vec<usize>, order: Vec<SortKey>, limit: u64, dense: bool) -> TopK {
        let counting = if dense { Counting::DenseRanks } else { Counting::Ranks };
        TopK { key, order, offset: 0, end: limit, counting }
    }

    /// The rows that come out as of a time, each with the copies that do, in order of (rank, hash).
    fn kept(&self, group: &ChangedGroup<'_>, until: Option<Timestamp>) -> Few {
        self.first(group, until, self.offset)
    }

    /// The rows from the one numbered `offset` to the end of those kept.
    fn first(&self, group: &ChangedGroup<'_>, until: Option<Timestamp>, offset: u64) -> Few {
        let mut kept = Few::new();
        if self.end <= offset || (until.is_none() && group.is_new()) {
            return kept;
        }
        let mut seen = 0u64;
        let mut rows = group.rows(until);
        let mut block = Few::new();
        // A row of the next rank, if it was read already: what looked like one more of this rank was there no more.
        let mut carried: Option<Live> = None;
        while seen < self.end
            && let Some(first) = carried.take().or_else(|| rows.next())
        {
            block.clear();
            block.push(first);
            while carried.is_none()
                && rows.next_has_rank(first.rank)
                && let Some(next) = rows.next()
            {
                if next.rank == first.rank { block.push(next) } else { carried = Some(next) }
            }
            if self.counting != Counting::Rows {
                self.first_ranks(group.batches, &mut block, &mut seen, &mut kept);
                continue;
            }
            let total: u64 = block.iter().map(|live| live.count as u64).sum();
            let inside = seen >= offset && seen.saturating_add(total) <= self.end;
            if !inside && block.len() > 1 {
                block.sort_by(|left, right| self.compare(group.batches, left, right));
            }
            for live in &block {
                let (from, to) = (seen.max(offset), seen.saturating_add(live.count as u64).min(self.end));
                if from < to {
                    kept.push(Live { count: (to - from) as i64, ..*live });
                }
                seen = seen.saturating_add(live.count as u64);
            }
        }
        kept.sort_unstable_by_key(|live| (live.rank, live.hash));
        kept
    }

    /// Keeps the rows of `block`, which are all of one rank, up to the end, group by group of those equal in order.
    fn first_ranks(&self, batches: &[Batch], block: &mut Few, seen: &mut u64, kept: &mut Few) {
        block.sort_by(|left, right| self.compare_order(batches, left, right));
        let mut start = 0;
        while start < block.len() && *seen < self.end {
            let is_peer = |live: &&Live| self.compare_order(batches, &block[start], live).is_eq();
            let peers = block[start..].iter().take_while(is_peer).count();
            let peers = &block[start..start + peers];
            kept.extend_from_slice(peers);
            *seen = seen.saturating_add(match self.counting {
                Counting::DenseRanks => 1,
                _ => peers.iter().map(|live| live.count as u64).sum(),
            });
            start += peers.len();
        }
    }

    /// By the sort columns.
    fn compare_order(&self, batches: &[Batch], left: &Live, right: &Live) -> Ordering {
        for sort in &self.order {
            let ((a, i), (b, j)) = (left.place.value(batches, sort.column), right.place.value(batches, sort.column));
            let order = a.compare(i, b, j, sort.descending, sort.nulls_first);
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    }

    /// The exact order: the sort columns, then all columns ascending, then the hash.
    fn compare(&self, batches: &[Batch], left: &Live, right: &Live) -> Ordering {
        let order = self.compare_order(batches, left, right);
        if order.is_ne() {
            return order;
        }
        for column in 0..left.place.chunk(batches).column_count() {
            let ((a, i), (b, j)) = (left.place.value(batches, column), right.place.value(batches, column));
            let order = a.compare(i, b, j, false, false);
            if order.is_ne() {
                return order;
            }
        }
        left.hash.cmp(&right.hash)
    }
}

impl TopK {
    /// Puts out what changes in a group.
    fn change(&self, group: &ChangedGroup<'_>, rows: &mut OutputRows, out: &mut Vec<Updates>) {
        let mut before = self.kept(group, None);
        for time in group.times {
            let after = self.kept(group, Some(*time));
            for_each_change(&before, &after, |live, change| rows.push(group.batches, live.place, *time, change, out));
            before = after;
        }
    }

    /// Puts out what `novel` changes, and returns how the rows worth keeping change: what comes in less what falls out.
    fn replace(&self, prior: Vec<Batch>, novel: Batch, as_of: Timestamp, out: &mut Vec<Updates>) -> Option<Batch> {
        let mut batches = prior;
        batches.push(novel);
        let mut rows = OutputRows::default();
        let mut writer = ChunkWriter::copying();
        let mut bases = HashMap::new();
        let mut chunks = VecDeque::new();
        // The changes of one key hash: should several keys share it, their rows have to be sorted together.
        let mut changes: Vec<(Identity, Place, Timestamp, i64)> = Vec::new();
        changed_groups(&batches, &self.key, as_of, |group| {
            if changes.first().is_some_and(|change| change.0.0 != group.hash) {
                write(&mut changes, &batches, &mut bases, &mut writer, &mut chunks);
            }
            let Some(last) = group.times.last() else { return };
            let mut keep = |live: &Live, change: i64| {
                changes.push(((group.hash, live.rank, live.hash), live.place, *last, change));
            };
            let (before, after) = (self.first(&group, None, 0), self.first(&group, Some(*last), 0));
            if self.offset == 0 && group.times.len() == 1 {
                for_each_change(&before, &after, |live, change| {
                    keep(live, change);
                    rows.push(&batches, live.place, *last, change, out);
                });
            } else {
                for_each_change(&before, &after, keep);
                self.change(&group, &mut rows, out);
            }
        });
        write(&mut changes, &batches, &mut bases, &mut writer, &mut chunks);
        rows.flush(out);
        writer.flush(&mut chunks);
        (!chunks.is_empty()).then(|| Rc::new(ChunkBatch::new(settle_all(chunks))))
    }
}

/// Writes `changes` in order and forgets them. `bases` says where the sources of a chunk are in the writer.
fn write(
    changes: &mut Vec<(Identity, Place, Timestamp, i64)>,
    batches: &[Batch],
    bases: &mut HashMap<(u32, u32), usize>,
    writer: &mut ChunkWriter,
    out: &mut VecDeque<ArrowChunk>,
) {
    if !changes.is_sorted_by_key(|change| change.0) {
        changes.sort_unstable_by_key(|change| change.0);
    }
    for (identity, place, time, change) in changes.drain(..) {
        let chunk = place.chunk(batches);
        let base = *bases.entry((place.batch, place.chunk)).or_insert_with(|| writer.add_sources(chunk));
        let (source, row) = chunk.source_row(place.row as usize);
        writer.push_row(base + source, row, identity, time, Weight::Copies(change), out);
    }
}

impl BatchLogic for TopK {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut batches = prior.to_vec();
        batches.push(novel.clone());
        let mut rows = OutputRows::default();
        changed_groups(&batches, &self.key, as_of, |group| self.change(&group, &mut rows, &mut output.updates));
        rows.flush(&mut output.updates);
    }
}

/// The first rows of batches that only ever add rows; the trace has the rows kept.
pub(crate) fn render_append_only<'scope>(
    batches: Stream<'scope, Timestamp, Vec<BatchSpan>>,
    name: &str,
    as_of: Timestamp,
    logic: TopK,
) -> (Rows<'scope>, Trace) {
    let scope = batches.scope();
    let mut reader = None;
    let rows = batches.unary(Pipeline, name, |_, info| {
        let activator = scope.activator_for(info.address.clone());
        let (trace, mut writer) = TraceAgent::new(Spine::new(info.clone(), None, Some(activator)), info, None);
        reader = Some(trace.clone());
        let mut kept = trace;
        let mut upper = Antichain::from_elem(0);
        move |input, output: &mut OutputBuilderSession<'_, Timestamp, NoopBuilder<Updates>>| {
            let mut novel: Vec<(CapabilitySet<Timestamp>, BatchSpan)> = Vec::new();
            input.for_each(|capability, spans| {
                novel.extend(spans.drain(..).map(|span| (capability.retain_stamp(0), span)));
            });
            for (capabilities, span) in novel {
                let Some(batch) = span.inner else { continue };
                let prior = kept.batches_through(upper.borrow()).expect("this operator's hold keeps the boundary");
                let mut out = Vec::new();
                let change = logic.replace(prior, batch, as_of, &mut out);
                let mut session = output.session_with_builder(&capabilities);
                out.iter_mut().for_each(|updates| session.give_container(updates));
                let until = span.desc.upper().clone();
                let since = Antichain::from_elem(0);
                writer.insert(Span::new(Description::new(upper.clone(), until.clone(), since), change), Stamp::new());
                upper = until;
                kept.set_logical_compaction(upper.borrow());
                kept.set_physical_compaction(upper.borrow());
            }
            writer.exert();
        }
    });
    (rows, reader.expect("the operator was built"))
}

/// Calls `emit` for each row whose count differs; both sides are in order of (rank, hash).
fn for_each_change(before: &[Live], after: &[Live], mut emit: impl FnMut(&Live, i64)) {
    let (mut i, mut j) = (0, 0);
    while i < before.len() || j < after.len() {
        let order = match (before.get(i), after.get(j)) {
            (Some(old), Some(new)) => (old.rank, old.hash).cmp(&(new.rank, new.hash)),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Less => {
                emit(&before[i], -before[i].count);
                i += 1;
            }
            Ordering::Greater => {
                emit(&after[j], after[j].count);
                j += 1;
            }
            Ordering::Equal => {
                let change = after[j].count - before[i].count;
                if change != 0 {
                    emit(&after[j], change);
                }
                (i, j) = (i + 1, j + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_smaller_rank_is_a_smaller_value() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![
                Some(i64::MIN),
                Some(i64::MIN + 1),
                Some(-1 << 62),
                Some(-1),
                None,
                Some(0),
                Some(1),
                Some(i64::MAX),
            ])),
            Arc::new(Float64Array::from(vec![
                Some(f64::NEG_INFINITY),
                Some(-1.5),
                Some(-0.0),
                Some(0.0),
                None,
                Some(1e-300),
                Some(f64::NAN),
            ])),
            Arc::new(StringArray::from(vec![
                Some(""),
                Some("a"),
                Some("a\0"),
                None,
                Some("abcdefgh"),
                Some("abcdefgi1"),
            ])),
        ];
        for column in &columns {
            for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
                let ranks = ranks(column, &SortKey { column: 0, descending, nulls_first });
                for i in 0..column.len() {
                    for j in 0..column.len() {
                        let order = compare_values(column, i, column, j, descending, nulls_first);
                        assert!(ranks[i] >= ranks[j] || order.is_lt(), "{i} and {j} of {column:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_of_everyday_size_have_ranks_of_their_own() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![41, 42, 1_700_000_000_000_000, 1_700_000_000_000_001]));
        let ranks = ranks(&column, &SortKey { column: 0, descending: false, nulls_first: false });
        assert!(ranks.is_sorted_by(|left, right| left < right));
    }
}
