//! The rows of a chunk: columns of its own, or references into columns that many chunks share.
//!
//! Merging sorts rows by hash, so a row moves each time its batch is merged. Narrow rows are copied. Wide ones, such as
//! those with texts, stay where they first came to lie, and only four bytes a row move: a merge then needs memory for
//! integer lanes alone, not for its inputs and its output at once.
//!
//! What is shared is kept as long as one chunk refers to it, so rows that are gone must not be many: each chunk
//! counts those that went while it was made, and beyond a share of the rows it has, it copies what is left. The same
//! happens once a chunk would refer to too many sources. What is shared is packed ([`Column`]): it will not move again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::interleave;
use hashbrown::HashMap;

use super::ArrowChunk;
use super::column::{Column, gather_packed};
use crate::updates::take_rows;

/// Rows narrower than this are copied: a reference costs more than it saves.
const SHARED_BYTES_MIN: usize = 64;
/// Nor is anything gained by sharing sources of a few rows.
const SOURCE_ROWS_MIN: usize = 1024;
/// Most sources of one chunk.
const SOURCES_MAX: usize = 256;
/// Fewer rows a source are copied: a chunk should not be mostly its list of sources.
const ROWS_A_SOURCE_MIN: usize = 32;
/// Rows of other sources are copied beside those that are shared, if they are fewer than one in so many.
const LOOSE_SHARE_MAX: usize = 4;
/// Bits of a reference that say which row; the rest say which source.
const ROW_BITS: u32 = 24;
const ROW_MASK: u32 = (1 << ROW_BITS) - 1;
/// Stands for the source of the loose rows until its place is known: one more than any source's.
const LOOSE: u32 = SOURCES_MAX as u32 - 1;

/// Columns that chunks read rows from.
#[derive(Debug, Default)]
pub(crate) struct Source {
    columns: Vec<Column>,
    row_count: usize,
    /// Memory of the rows themselves; 0 if they are too few to be shared.
    byte_count: usize,
    /// Whether references to its rows are better than copies.
    is_shareable: bool,
    /// How many sources were packed like one another before this.
    generation: u32,
}

impl Source {
    /// `row_count` rows of `columns`, packed if they are worth sharing; `like` is a shared source of such rows, if there is
    /// one.
    pub(crate) fn new(columns: Vec<ArrayRef>, row_count: usize, like: Option<&Source>) -> Arc<Source> {
        if row_count < SOURCE_ROWS_MIN {
            return Source::unshared(columns, row_count);
        }
        let mut columns: Vec<Column> = columns.into_iter().map(Column::Plain).collect();
        let mut byte_count = columns.iter().map(Column::byte_count).sum();
        let held: usize = columns.iter().map(Column::held_bytes).sum();
        let is_wide = byte_count >= row_count * SHARED_BYTES_MIN;
        // Slices of larger arrays would keep the rest.
        let is_tight = held <= byte_count + byte_count / 4;
        let is_shareable = is_wide && is_tight && row_count <= 1 << ROW_BITS;
        let generation = like.map_or(0, |like| like.generation + 1);
        if is_shareable {
            for (index, column) in columns.iter_mut().enumerate() {
                column.pack(like.map(|like| &like.columns[index]), generation.is_power_of_two());
            }
            byte_count = columns.iter().map(Column::byte_count).sum();
        }
        Arc::new(Source { columns, row_count, byte_count, is_shareable, generation })
    }

    /// Rows that are copied wherever they go.
    pub(crate) fn unshared(columns: Vec<ArrayRef>, row_count: usize) -> Arc<Source> {
        let columns = columns.into_iter().map(Column::Plain).collect();
        Arc::new(Source { columns, row_count, ..Source::default() })
    }

    /// The same for rows that are few, but were copied for sharing.
    fn shareable(columns: Vec<ArrayRef>, row_count: usize) -> Arc<Source> {
        let columns: Vec<Column> = columns.into_iter().map(Column::Plain).collect();
        let byte_count = columns.iter().map(Column::byte_count).sum();
        Arc::new(Source { columns, row_count, byte_count, is_shareable: true, generation: 0 })
    }

    /// Whether references to its rows are better than copies.
    pub(crate) fn is_worth_sharing(&self) -> bool {
        self.is_shareable
    }

    /// The columns, which others of the relation have too.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Rows {
    /// In order, one after the other.
    Own(Arc<Source>),
    /// Packed references, one a row.
    Shared { sources: Vec<Arc<Source>>, references: Vec<u32>, gone: usize },
}

impl Default for Rows {
    fn default() -> Rows {
        Rows::Own(Arc::default())
    }
}

impl Rows {
    /// `rows` as `(source, row)`, copied or referred to; `gone` rows of the sources were consolidated away beside them.
    pub(crate) fn new(sources: &[Arc<Source>], rows: &[(usize, usize)], gone: usize) -> Rows {
        Rows::shared(sources, rows, gone).unwrap_or_else(|| Rows::copied(sources, rows))
    }

    /// `rows` as `(source, row)`, copied.
    pub(crate) fn copied(sources: &[Arc<Source>], rows: &[(usize, usize)]) -> Rows {
        // Never a slice: that would keep the rest.
        let columns = gather(&columns_of(sources), rows, Slices::Copied);
        let like = sources.iter().find(|source| source.is_shareable);
        Rows::Own(Source::new(columns, rows.len(), like.map(|source| &**source)))
    }

    /// Rows of sources that cannot be shared are put together in a source of their own, if they are few.
    fn shared(sources: &[Arc<Source>], rows: &[(usize, usize)], gone: usize) -> Option<Rows> {
        if gone * 2 > rows.len() || sources.first().is_none_or(|source| source.columns.is_empty()) {
            return None;
        }
        let mut used: Vec<u32> = vec![u32::MAX; sources.len()];
        let mut kept: Vec<Arc<Source>> = Vec::new();
        let mut loose: Vec<(usize, usize)> = Vec::new();
        // One less, for those that are loose.
        let most = (SOURCES_MAX - 1).min(rows.len() / ROWS_A_SOURCE_MIN);
        let mut references = Vec::with_capacity(rows.len());
        for &(source, row) in rows {
            if !sources[source].is_worth_sharing() {
                if loose.len() >= rows.len() / LOOSE_SHARE_MAX {
                    return None;
                }
                references.push(LOOSE << ROW_BITS | loose.len() as u32);
                loose.push((source, row));
                continue;
            }
            let index = &mut used[source];
            if *index == u32::MAX {
                if kept.len() >= most {
                    return None;
                }
                *index = kept.len() as u32;
                kept.push(sources[source].clone());
            }
            references.push(*index << ROW_BITS | row as u32);
        }
        if !loose.is_empty() {
            let index = kept.len() as u32;
            let is_loose = |reference: &&mut u32| **reference >> ROW_BITS == LOOSE;
            references.iter_mut().filter(is_loose).for_each(|reference| {
                *reference = index << ROW_BITS | (*reference & ROW_MASK);
            });
            kept.push(Source::shareable(gather(&columns_of(sources), &loose, Slices::Copied), loose.len()));
        }
        Some(Rows::Shared { sources: kept, references, gone })
    }

    /// The columns that `index` lies in, and its row there.
    #[inline(always)]
    pub(crate) fn locate(&self, index: usize) -> (usize, usize) {
        match self {
            Rows::Own(_) => (0, index),
            Rows::Shared { references, .. } => unpack(references[index]),
        }
    }

    /// What [`Rows::locate`] counts.
    #[inline(always)]
    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        match self {
            Rows::Own(source) => std::slice::from_ref(source),
            Rows::Shared { sources, .. } => sources,
        }
    }

    /// Rows of the sources that were consolidated away beside these.
    pub(crate) fn gone(&self) -> usize {
        if let Rows::Shared { gone, .. } = self { *gone } else { 0 }
    }

    /// `len` rows from `start` on: a slice where they lie together, copied where not.
    pub(crate) fn columns(&self, start: usize, len: usize) -> Vec<ArrayRef> {
        match self {
            Rows::Own(source) => source.columns.iter().map(|column| column.slice(start, len)).collect(),
            Rows::Shared { sources, references, .. } => {
                let rows: Vec<_> = references[start..start + len].iter().copied().map(unpack).collect();
                gather(&columns_of(sources), &rows, Slices::Kept)
            }
        }
    }

    /// Memory; of what is shared, the part that these rows are.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Rows::Own(source) => source.columns.iter().map(Column::held_bytes).sum(),
            Rows::Shared { sources, references, gone } => {
                let (bytes, rows) = sources
                    .iter()
                    .fold((0, 0), |(bytes, rows), source| (bytes + source.byte_count, rows + source.row_count));
                references.capacity() * 4 + sources.len() * 8 + (references.len() + gone) * bytes / rows.max(1)
            }
        }
    }
}

fn unpack(reference: u32) -> (usize, usize) {
    ((reference >> ROW_BITS) as usize, (reference & ROW_MASK) as usize)
}

/// Sources that a [`SourceList`] finds without hashing.
const RECENT: usize = 16;

/// The sources of rows that are picked from many chunks, each listed once.
#[derive(Default)]
pub(crate) struct SourceList {
    list: Vec<Arc<Source>>,
    indices: HashMap<usize, usize>,
    /// Some of `indices` again: neighbouring rows are of few sources.
    recent: [(usize, usize); RECENT],
}

impl SourceList {
    /// A list that starts with `first`.
    pub(crate) fn starting_with(first: Arc<Source>) -> SourceList {
        SourceList { list: vec![first], ..SourceList::default() }
    }

    /// Where row `row` of `chunk` is among the sources.
    #[inline]
    pub(crate) fn locate(&mut self, chunk: &ArrowChunk, row: usize) -> (usize, usize) {
        let (source, row) = chunk.locate(row);
        let address = Arc::as_ptr(source) as usize;
        let recent = &mut self.recent[(address / size_of::<Source>()) % RECENT];
        if recent.0 == address {
            return (recent.1, row);
        }
        let index = *self.indices.entry(address).or_insert_with(|| {
            self.list.push(source.clone());
            self.list.len() - 1
        });
        *recent = (address, index);
        (index, row)
    }

    pub(crate) fn as_slice(&self) -> &[Arc<Source>] {
        &self.list
    }

    /// One column of `rows`, as [`SourceList::locate`] told them.
    pub(crate) fn column(&self, column: usize, rows: &[(usize, usize)]) -> ArrayRef {
        let columns: Vec<&Column> = self.list.iter().map(|source| &source.columns[column]).collect();
        gather_column(&columns, rows, Slices::Kept)
    }

    /// All columns of `rows`.
    pub(crate) fn gather(&self, rows: &[(usize, usize)]) -> Vec<ArrayRef> {
        gather(&columns_of(&self.list), rows, Slices::Kept)
    }

    /// Forgets all but the first `keep` sources.
    pub(crate) fn truncate(&mut self, keep: usize) {
        self.list.truncate(keep);
        self.indices.clear();
        self.recent = Default::default();
    }
}

/// Whether rows that lie together may be a slice, which keeps the rest of their array.
#[derive(Clone, Copy, PartialEq)]
enum Slices {
    Kept,
    Copied,
}

fn columns_of(sources: &[Arc<Source>]) -> Vec<&[Column]> {
    sources.iter().map(|source| &source.columns[..]).collect()
}

/// Rows `(source, row)` of each column. Sources have the same column types; none may be given where `rows` is empty.
fn gather(sources: &[&[Column]], rows: &[(usize, usize)], slices: Slices) -> Vec<ArrayRef> {
    let Some(first) = sources.first() else { return Vec::new() };
    let column = |index: usize| sources.iter().map(|source| &source[index]).collect::<Vec<_>>();
    (0..first.len()).map(|index| gather_column(&column(index), rows, slices)).collect()
}

/// One column of [`gather`].
fn gather_column(sources: &[&Column], rows: &[(usize, usize)], slices: Slices) -> ArrayRef {
    let Some(arrays) = sources.iter().map(|column| column.plain()).collect::<Option<Vec<&ArrayRef>>>() else {
        return gather_packed(sources, rows);
    };
    if let [array] = arrays[..] {
        let contiguous = || rows.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1);
        if slices == Slices::Kept
            && let Some((_, start)) = rows.first()
            && contiguous()
        {
            return array.slice(*start, rows.len());
        }
        let indices = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row as u32));
        return take_rows(array, &indices);
    }
    let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
    interleave(&arrays, rows).expect("sources of the same column types")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use differential_dataflow::trace::chunk::{Chunk, is_graded, merge_chains, settle_all};
    use repr::{Diff, Lane, Timestamp};
    use timely::progress::Antichain;

    use super::*;
    use crate::chunker::sort;
    use crate::updates::Updates;

    /// Rows `(number, text of its own)`, wide enough to be shared, in containers as sources send them.
    fn chain(numbers: impl Iterator<Item = i64>, time: Timestamp, diff: Diff) -> Vec<ArrowChunk> {
        let numbers: Vec<i64> = numbers.collect();
        let staged: Vec<Updates> = numbers
            .chunks(16 * 1024)
            .map(|numbers| {
                let texts: Vec<String> = numbers.iter().map(|number| text(*number)).collect();
                let columns: Vec<ArrayRef> =
                    vec![Arc::new(Int64Array::from(numbers.to_vec())), Arc::new(StringArray::from(texts))];
                let lanes = (Lane::Constant(time, numbers.len()), Lane::Constant(diff, numbers.len()));
                let mut updates = Updates::new(columns, lanes.0, lanes.1);
                updates.hash(&[0]);
                updates
            })
            .collect();
        let mut chunks = VecDeque::new();
        sort(&staged, &mut None, &mut chunks);
        settle_all(chunks)
    }

    fn text(number: i64) -> String {
        format!("{number:0>90}")
    }

    fn merged(left: Vec<ArrowChunk>, right: Vec<ArrowChunk>, since: Timestamp) -> Vec<ArrowChunk> {
        let mut chunks = VecDeque::new();
        merge_chains(left, right, &mut chunks);
        let mut advanced = VecDeque::new();
        ArrowChunk::advance(&mut chunks, Antichain::from_elem(since).borrow(), true, &mut advanced);
        let settled = settle_all(advanced);
        assert!(is_graded(&settled));
        settled
    }

    fn contents(chunks: &[ArrowChunk]) -> BTreeMap<i64, Diff> {
        let mut contents = BTreeMap::new();
        for chunk in chunks {
            let columns = chunk.columns();
            for row in 0..chunk.row_count() {
                let number = columns[0].as_primitive::<Int64Type>().value(row);
                assert_eq!(columns[1].as_string::<i32>().value(row), text(number));
                let (source, at) = chunk.locate(row);
                assert_eq!(source.columns[0].single(at).as_primitive::<Int64Type>().value(0), number);
                assert_eq!(contents.insert(number, chunk.diff(row)), None, "consolidated");
            }
        }
        contents
    }

    fn is_shared(chunk: &ArrowChunk) -> bool {
        matches!(chunk.payload.rows, Rows::Shared { .. })
    }

    /// The rows that chunks keep in memory, a shared source counted once.
    fn rows_held(chunks: &[ArrowChunk]) -> usize {
        let sources = chunks.iter().flat_map(|chunk| chunk.payload.rows.sources());
        let held: BTreeMap<usize, usize> =
            sources.map(|source| (Arc::as_ptr(source) as usize, source.row_count)).collect();
        held.values().sum()
    }

    #[test]
    fn wide_rows_stay_where_they_are() {
        let (left, right) = (chain(0..100_000, 1, 1), chain(100_000..160_000, 2, 1));
        let both = merged(left, right, 2);
        assert!(both.iter().all(is_shared));
        assert_eq!(rows_held(&both), 160_000);
        assert_eq!(contents(&both), (0..160_000).map(|number| (number, 1)).collect());
        // 16 of hashes, 8 of times, 4 of the reference, 4 of the text's end: what is left is the packed text and number.
        let bytes: usize = both.iter().map(ArrowChunk::size_bytes).sum();
        assert!((160_000 * 40..160_000 * 70).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn rows_that_are_gone_do_not_stay_in_memory() {
        let all = chain(0..100_000, 1, 1);
        let few = merged(all, chain((0..100_000).filter(|number| number % 10 == 0), 2, -1), 2);
        assert!(few.iter().all(is_shared), "a tenth may stay");
        assert_eq!(contents(&few).len(), 90_000);
        // What went before counts as well.
        let more = merged(few, chain((0..100_000).filter(|number| number % 10 >= 6), 3, -1), 3);
        assert_eq!(contents(&more).len(), 50_000);
        assert!(rows_held(&more) < 55_000, "only slices of chunks hold more than they are");
    }

    #[test]
    fn narrow_rows_and_few_rows_are_copied() {
        let narrow: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..50_000))];
        let mut updates = Updates::new(narrow, Lane::Constant(1, 50_000), Lane::Constant(1, 50_000));
        updates.hash(&[0]);
        let mut chunks = VecDeque::new();
        sort(&[updates], &mut None, &mut chunks);
        assert!(!settle_all(chunks).iter().any(is_shared));
        assert!(!chain(0..100, 1, 1).iter().any(is_shared));
        // Rows that come in small numbers are put together first, and shared once there are many.
        let mut all = chain(0..100, 1, 1);
        for start in 1..100 {
            all = merged(all, chain(start * 100..start * 100 + 100, 1, 1), 1);
        }
        assert_eq!(contents(&all).len(), 10_000);
        assert!(rows_held(&all) < 12_500, "a source that is copied in part is held beside");
    }

    #[test]
    fn slices_of_large_arrays_are_copied() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..100_000).map(text)));
        let mut updates = Updates::new(vec![texts.slice(500, 5000)], Lane::Constant(1, 5000), Lane::Constant(1, 5000));
        updates.hash(&[0]);
        let mut chunks = VecDeque::new();
        sort(&[updates], &mut None, &mut chunks);
        assert!(!settle_all(chunks).iter().any(is_shared));
    }

    #[test]
    fn sources_do_not_become_too_many() {
        let mut all = Vec::new();
        for start in 0..400 {
            all = merged(all, chain(start * 1100..(start + 1) * 1100, 1, 1), 1);
        }
        assert!(all.iter().all(|chunk| chunk.payload.rows.sources().len() <= SOURCES_MAX));
        assert_eq!(contents(&all).len(), 440_000);
        assert!(rows_held(&all) < 2 * 440_000);
    }
}
