//! From the unsorted containers of a stream to sorted chunks.
//!
//! Many containers are sorted at once: the more rows, the fewer merges after it, and rows of one key that arrive
//! together are added up before they are written.

use std::collections::VecDeque;
use std::sync::Arc;

use repr::Timestamp;
use timely::container::{ContainerBuilder, PushInto};

use crate::chunk::{ArrowChunk, ChunkWriter, Source, Weight};
use crate::updates::{Accumulators, Updates};

/// Rows that are sorted at once.
const STAGE_ROWS_MAX: usize = 128 * 1024;

/// Sorts and consolidates the containers of a stream into chunks, many containers at a time.
#[derive(Default)]
pub(crate) struct ArrowChunker {
    staged: Vec<Updates>,
    staged_rows: usize,
    ready: VecDeque<ArrowChunk>,
    current: ArrowChunk,
    /// A source of rows before these: how they were packed may fit again.
    like: Option<Arc<Source>>,
}

impl ArrowChunker {
    fn flush(&mut self) {
        self.staged_rows = 0;
        sort(&std::mem::take(&mut self.staged), &mut self.like, &mut self.ready);
    }
}

impl<'a> PushInto<&'a mut Updates> for ArrowChunker {
    fn push_into(&mut self, updates: &'a mut Updates) {
        let updates = std::mem::take(updates);
        if updates.is_empty() {
            return;
        }
        debug_assert_eq!(updates.key_hashes.len(), updates.len(), "arranged containers are hashed");
        self.staged_rows += updates.len();
        self.staged.push(updates);
        if self.staged_rows >= STAGE_ROWS_MAX {
            self.flush();
        }
    }
}

impl ContainerBuilder for ArrowChunker {
    type Container = ArrowChunk;

    fn extract(&mut self) -> Option<&mut ArrowChunk> {
        self.current = self.ready.pop_front()?;
        Some(&mut self.current)
    }

    fn finish(&mut self) -> Option<&mut ArrowChunk> {
        self.flush();
        self.extract()
    }
}

#[inline(always)]
fn weight_of(updates: &Updates, row: usize) -> Weight<'_> {
    match &updates.accumulators {
        None => Weight::Copies(updates.diffs.get(row)),
        Some(Accumulators { width, values }) => Weight::Lanes(&values[row * width..(row + 1) * width]),
    }
}

/// Writes `staged` in order as chunks: a scatter by key hash, small sorts, one gather a chunk. Sources are packed like
/// `like`, which becomes the last one that is shared.
pub(crate) fn sort(staged: &[Updates], like: &mut Option<Arc<Source>>, out: &mut VecDeque<ArrowChunk>) {
    let source = |updates: &Updates| {
        let source = Source::new(updates.columns.clone(), updates.len(), like.as_deref());
        if source.is_worth_sharing() {
            *like = Some(source.clone());
        }
        source
    };
    write(staged, source, out);
}

/// The same for rows that nobody keeps.
pub(crate) fn sort_unpacked(staged: &[Updates]) -> Vec<ArrowChunk> {
    let mut chunks = VecDeque::new();
    write(staged, |updates| Source::unshared(updates.columns.clone(), updates.len()), &mut chunks);
    chunks.into()
}

fn write(staged: &[Updates], source: impl FnMut(&Updates) -> Arc<Source>, out: &mut VecDeque<ArrowChunk>) {
    let order = sort_by_key(staged);
    if order.is_empty() {
        return;
    }
    let mut writer = ChunkWriter::new(order.len());
    for source in staged.iter().map(source) {
        writer.add_source(source);
    }
    let mut group: Vec<(u64, u64, Timestamp, u32, u32)> = Vec::new();
    let mut start = 0;
    while start < order.len() {
        let key = order[start].0;
        let mut end = start + 1;
        while end < order.len() && order[end].0 == key {
            end += 1;
        }
        group.clear();
        for &(_, source, row) in &order[start..end] {
            let updates = &staged[source as usize];
            let rank = if updates.ranks.is_empty() { 0 } else { updates.ranks[row as usize] };
            group.push((rank, updates.row_hashes[row as usize], updates.times.get(row as usize), source, row));
        }
        if group.len() > 1 && !group.is_sorted_by_key(|row| (row.0, row.1, row.2)) {
            group.sort_unstable_by_key(|row| (row.0, row.1, row.2));
        }
        for &(rank, hash, time, source, row) in &group {
            let weight = weight_of(&staged[source as usize], row as usize);
            writer.push_row(source as usize, row as usize, (key, rank, hash), time, weight, out);
        }
        start = end;
    }
    writer.flush(out);
}

/// `(key hash, container, row)` in order of key hash: hashes are even, so one scatter by their first bits leaves small
/// sorts.
fn sort_by_key(staged: &[Updates]) -> Vec<(u64, u32, u32)> {
    let row_count: usize = staged.iter().map(Updates::len).sum();
    let each = || {
        staged.iter().enumerate().flat_map(|(source, updates)| {
            updates.key_hashes.iter().enumerate().map(move |(row, hash)| (*hash, source as u32, row as u32))
        })
    };
    if row_count <= 256 {
        let mut order: Vec<_> = each().collect();
        order.sort_unstable_by_key(|entry| entry.0);
        return order;
    }
    let bits = (usize::BITS - (row_count / 32).leading_zeros()).min(14);
    let shift = 64 - bits;
    let mut ends = vec![0u32; (1 << bits) + 1];
    for updates in staged {
        for hash in &updates.key_hashes {
            ends[(hash >> shift) as usize + 1] += 1;
        }
    }
    for bucket in 1..ends.len() {
        ends[bucket] += ends[bucket - 1];
    }
    let starts = ends.clone();
    let mut order = vec![(0, 0, 0); row_count];
    for entry in each() {
        let slot = &mut ends[(entry.0 >> shift) as usize];
        order[*slot as usize] = entry;
        *slot += 1;
    }
    for bucket in starts.windows(2) {
        order[bucket[0] as usize..bucket[1] as usize].sort_unstable_by_key(|entry| entry.0);
    }
    order
}
