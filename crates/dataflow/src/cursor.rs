//! Forward-only reading of sorted batches by key hash.

use crate::arrange::Batch;
use crate::chunk::{ArrowChunk, gallop};

/// A position in a list of chunks. Borrows nothing, so that it can wait between two schedulings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    /// Index of the chunk; the number of chunks at the end.
    pub(crate) chunk: usize,
    /// Row of that chunk.
    pub(crate) row: usize,
}

impl Position {
    /// The key hash here; None at the end.
    #[inline(always)]
    pub(crate) fn key(&self, chunks: &[ArrowChunk]) -> Option<u64> {
        chunks.get(self.chunk).map(|chunk| chunk.key_hash(self.row))
    }

    /// The next row.
    #[inline(always)]
    pub(crate) fn step(&mut self, chunks: &[ArrowChunk]) {
        self.row += 1;
        if self.row >= chunks[self.chunk].row_count() {
            self.chunk += 1;
            self.row = 0;
        }
    }

    /// The first row at or after this one with a key hash of at least `key`.
    #[inline]
    pub(crate) fn seek(&mut self, chunks: &[ArrowChunk], key: u64) {
        let Some(chunk) = chunks.get(self.chunk) else { return };
        if chunk.key_hash(self.row) >= key {
            return;
        }
        if chunk.key_hash(chunk.row_count() - 1) < key {
            self.chunk = gallop(chunks, self.chunk + 1, |chunk| chunk.key_hash(chunk.row_count() - 1) < key);
            self.row = 0;
            if self.chunk >= chunks.len() {
                return;
            }
        }
        self.row = gallop(chunks[self.chunk].key_hashes(), self.row, |hash| *hash < key);
    }
}

impl Position {
    /// The first row at or after this one, which is of `key`, with at least that rank, or of another key.
    pub(crate) fn seek_rank(&mut self, chunks: &[ArrowChunk], key: u64, rank: u64) {
        let before = |chunk: &ArrowChunk, row: usize| (chunk.key_hash(row), chunk.rank(row)) < (key, rank);
        let Some(chunk) = chunks.get(self.chunk) else { return };
        if !before(chunk, chunk.row_count() - 1) {
            self.row = first_not(self.row, chunk.row_count(), |row| before(chunk, row));
            return;
        }
        self.chunk = gallop(chunks, self.chunk + 1, |chunk| before(chunk, chunk.row_count() - 1));
        self.row = chunks.get(self.chunk).map_or(0, |chunk| first_not(0, chunk.row_count(), |row| before(chunk, row)));
    }
}

/// The first of `start..end` that is not `before`, which holds up to some point; `end` if all are.
pub(crate) fn first_not(start: usize, end: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (start, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Several batches read side by side.
pub(crate) struct Cursor {
    pub(crate) batches: Vec<Batch>,
    pub(crate) positions: Vec<Position>,
}

impl Cursor {
    pub(crate) fn new(batches: Vec<Batch>) -> Cursor {
        let positions = vec![Position::default(); batches.len()];
        Cursor { batches, positions }
    }

    /// The least key hash ahead.
    #[inline]
    pub(crate) fn key(&self) -> Option<u64> {
        self.batches.iter().zip(&self.positions).filter_map(|(batch, position)| position.key(&batch.chunks)).min()
    }

    /// Moves every batch to its first row with a key hash of at least `key`.
    #[inline]
    pub(crate) fn seek(&mut self, key: u64) {
        for (batch, position) in self.batches.iter().zip(&mut self.positions) {
            position.seek(&batch.chunks, key);
        }
    }
}
