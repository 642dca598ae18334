//! Chunks from updates that come in order.

use std::collections::VecDeque;
use std::sync::Arc;

use repr::{Diff, Timestamp};

use super::rows::{Rows, Source};
use super::{ArrowChunk, CHUNK_ROWS_MAX, Identity, Payload, Times, Weight, Weights};

/// Takes updates in order, adds equal neighbours up, and cuts the rest into chunks: one gather a chunk.
#[derive(Default)]
pub(crate) struct ChunkWriter {
    sources: Vec<Arc<Source>>,
    /// Whether rows are copied, be they wide or not.
    copies: bool,
    /// Rows of the sources that were consolidated away already when these came here, not yet told to a chunk.
    gone: usize,
    rows: Vec<(usize, usize)>,
    key_hashes: Vec<u64>,
    ranks: Vec<u64>,
    row_hashes: Vec<u64>,
    times: Vec<Timestamp>,
    diffs: Vec<Diff>,
    lanes: Vec<i128>,
    width: usize,
    ranked: bool,
}

impl ChunkWriter {
    /// A writer of about `capacity` rows.
    pub(crate) fn new(capacity: usize) -> ChunkWriter {
        let capacity = capacity.min(CHUNK_ROWS_MAX);
        ChunkWriter {
            rows: Vec::with_capacity(capacity),
            key_hashes: Vec::with_capacity(capacity),
            row_hashes: Vec::with_capacity(capacity),
            times: Vec::with_capacity(capacity),
            ..ChunkWriter::default()
        }
    }

    /// A writer whose chunks have rows of their own: few of many, which should not keep the many.
    pub(crate) fn copying() -> ChunkWriter {
        ChunkWriter { copies: true, ..ChunkWriter::default() }
    }

    /// Rows of this source may come; the result is its index.
    pub(crate) fn add_source(&mut self, source: Arc<Source>) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Rows of this chunk may come; the result is for [`ChunkWriter::push`].
    pub(crate) fn add_sources(&mut self, chunk: &ArrowChunk) -> usize {
        let base = self.sources.len();
        self.sources.extend_from_slice(chunk.payload.rows.sources());
        self.gone += chunk.gone();
        base
    }

    /// Appends row `row` of `chunk`, whose sources start at `base`, as of `time`.
    #[inline]
    pub(crate) fn push(
        &mut self,
        base: usize,
        chunk: &ArrowChunk,
        row: usize,
        time: Timestamp,
        out: &mut VecDeque<ArrowChunk>,
    ) {
        let (source, source_row) = chunk.source_row(row);
        self.push_row(base + source, source_row, chunk.identity(row), time, chunk.weight(row), out);
    }

    /// Appends an update, or adds it to the one before if only the weight differs.
    #[inline]
    pub(crate) fn push_row(
        &mut self,
        source: usize,
        row: usize,
        (key, rank, hash): Identity,
        time: Timestamp,
        weight: Weight<'_>,
        out: &mut VecDeque<ArrowChunk>,
    ) {
        if let Some(last) = self.rows.len().checked_sub(1) {
            if self.key_hashes[last] == key
                && self.row_hashes[last] == hash
                && self.times[last] == time
                && (if self.ranked { self.ranks[last] } else { 0 }) == rank
            {
                self.gone += 1;
                return self.add(weight);
            }
            self.drop_zero();
            if self.rows.len() >= CHUNK_ROWS_MAX {
                self.flush(out);
            }
        }
        self.rows.push((source, row));
        self.key_hashes.push(key);
        self.row_hashes.push(hash);
        self.times.push(time);
        if rank != 0 && !self.ranked {
            self.ranked = true;
            self.ranks.resize(self.rows.len() - 1, 0);
        }
        if self.ranked {
            self.ranks.push(rank);
        }
        match weight {
            Weight::Copies(diff) => self.diffs.push(diff),
            Weight::Lanes(lanes) => {
                self.width = lanes.len();
                match lanes {
                    [lane] => self.lanes.push(*lane),
                    lanes => self.lanes.extend_from_slice(lanes),
                }
            }
        }
    }

    #[inline]
    fn add(&mut self, weight: Weight<'_>) {
        match weight {
            Weight::Copies(diff) => *self.diffs.last_mut().expect("a row is there") += diff,
            Weight::Lanes(lanes) => {
                let start = self.lanes.len() - self.width;
                add_lanes(&mut self.lanes[start..], lanes);
            }
        }
    }

    /// Drops the last row if its weight came to nothing.
    #[inline]
    fn drop_zero(&mut self) {
        let zero = if self.width > 0 {
            let start = self.lanes.len() - self.width;
            let zero = self.lanes[start..].iter().all(|lane| *lane == 0);
            if zero {
                self.lanes.truncate(start);
            }
            zero
        } else {
            self.diffs.last() == Some(&0) && self.diffs.pop().is_some()
        };
        if zero {
            self.gone += 1;
            self.rows.pop();
            self.key_hashes.pop();
            self.row_hashes.pop();
            self.times.pop();
            if self.ranked {
                self.ranks.pop();
            }
        }
    }

    /// Cuts a chunk from what is there, if anything. Nothing equal may come after it.
    pub(crate) fn flush(&mut self, out: &mut VecDeque<ArrowChunk>) {
        if !self.rows.is_empty() {
            self.drop_zero();
        }
        if self.rows.is_empty() {
            return;
        }
        let len = self.rows.len();
        let gone = std::mem::take(&mut self.gone);
        let rows = if self.copies {
            Rows::copied(&self.sources, &self.rows)
        } else {
            Rows::new(&self.sources, &self.rows, gone)
        };
        // Half a source copied and half of it referred to is more than either.
        self.copies |= matches!(rows, Rows::Own(_));
        self.rows.clear();
        let weights = if self.width > 0 {
            Weights::Lanes(self.width, Arc::new(std::mem::take(&mut self.lanes)))
        } else {
            compress_weights(std::mem::take(&mut self.diffs))
        };
        self.ranked = false;
        out.push_back(ArrowChunk {
            payload: Arc::new(Payload {
                key_hashes: std::mem::take(&mut self.key_hashes),
                ranks: std::mem::take(&mut self.ranks),
                row_hashes: std::mem::take(&mut self.row_hashes),
                rows,
            }),
            times: compress_times(std::mem::take(&mut self.times)),
            weights,
            offset: 0,
            len: len as u32,
        });
    }
}

/// `into[i] += lanes[i]`; wrapping, since states are exact modulo 2^128 and retractions undo a wrap.
#[inline(always)]
pub(crate) fn add_lanes(into: &mut [i128], lanes: &[i128]) {
    for (into, lane) in into.iter_mut().zip(lanes) {
        *into = into.wrapping_add(*lane);
    }
}

pub(super) fn compress_times(mut times: Vec<Timestamp>) -> Times {
    if times.iter().all(|time| *time == times[0]) {
        return Times::Constant(times.first().copied().unwrap_or(0));
    }
    times.shrink_to_fit();
    Times::Values(Arc::new(times))
}

pub(super) fn compress_weights(mut diffs: Vec<Diff>) -> Weights {
    if diffs.iter().all(|diff| *diff == diffs[0]) {
        return Weights::Constant(diffs.first().copied().unwrap_or(1));
    }
    diffs.shrink_to_fit();
    Weights::Values(Arc::new(diffs))
}
