//! One worker's share of an export, read as of a time.
//!
//! An arrangement is a few sorted batches, each ten times the next or so. The largest is walked row by row over its integer
//! lanes, with the rows of the others merged in where they belong. Stretches in which nothing happens, each row once and
//! readable, are given away as slices of the chunks they lie in; only what lies between is copied.

use arrow::array::ArrayRef;
use differential_dataflow::trace::TraceReader;
use repr::{Diff, Lane, PgError, Timestamp};

use crate::arrange::{Batch, Trace};
use crate::chunk::{ArrowChunk, Identity, SourceList};

/// A stretch of at least this many rows is worth a batch of its own.
const SLICE_ROWS: usize = 1024;
/// Copied rows leave in batches of this many.
const GATHER_ROWS: usize = 8192;

/// Chunks by batch, each batch sorted. `Send`, unlike the trace it was taken from.
pub(crate) struct Share {
    batches: Vec<Vec<ArrowChunk>>,
}

/// Rows, each with how often it is there.
pub(crate) struct Part {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) counts: Lane<Diff>,
}

impl Share {
    /// All that the trace holds now.
    pub(crate) fn of(trace: &Trace) -> Share {
        let mut batches = Vec::new();
        trace.map_spans(|span| batches.extend(span.inner.as_ref().map(|batch| batch.chunks.clone())));
        Share { batches }
    }

    pub(crate) fn of_batches<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Share {
        Share { batches: batches.into_iter().map(|batch| batch.chunks.clone()).collect() }
    }

    /// Updates, of which several may be of one row.
    pub(crate) fn row_count(&self) -> usize {
        self.batches.iter().flatten().map(ArrowChunk::row_count).sum()
    }
}

/// All rows that are there at `as_of`. A row that is there less than never is an internal error.
pub(crate) fn read_all(share: &Share, as_of: Timestamp) -> Result<Vec<Part>, PgError> {
    let mut batches: Vec<&[ArrowChunk]> = share.batches.iter().map(Vec::as_slice).collect();
    batches.sort_by_key(|chunks| std::cmp::Reverse(chunks.iter().map(ArrowChunk::row_count).sum::<usize>()));
    let Some((largest, others)) = batches.split_first() else { return Ok(Vec::new()) };
    let mut chunks: Vec<&ArrowChunk> = largest.iter().collect();
    let mut updates: Vec<Update> = Vec::new();
    for chunk in others.iter().copied().flatten() {
        let index = chunks.len();
        chunks.push(chunk);
        let rows = (0..chunk.row_count()).filter(|row| chunk.time(*row) <= as_of);
        updates.extend(rows.map(|row| Update::at(chunk, index, row)));
    }
    updates.sort_unstable_by_key(|update| update.identity);
    let mut updates = updates.into_iter().peekable();
    let mut rows = Consolidate::new(&chunks);
    for (index, chunk) in largest.iter().enumerate() {
        for row in 0..chunk.row_count() {
            if chunk.time(row) > as_of {
                continue;
            }
            let update = Update::at(chunk, index, row);
            while let Some(earlier) = updates.next_if(|other| other.identity < update.identity) {
                rows.add(earlier)?;
            }
            rows.add(update)?;
        }
    }
    for update in updates {
        rows.add(update)?;
    }
    rows.finish()
}

/// The rows whose key hash is one of `hashes`, which are ascending, at `as_of`.
pub(crate) fn read_keys(share: &Share, hashes: &[u64], as_of: Timestamp) -> Result<Vec<Part>, PgError> {
    let mut chunks: Vec<&ArrowChunk> = Vec::new();
    let mut updates: Vec<Update> = Vec::new();
    for batch in &share.batches {
        for hash in hashes {
            let first = batch.partition_point(|chunk| chunk.key_hashes().last().is_none_or(|last| last < hash));
            for chunk in &batch[first..] {
                let start = chunk.key_hashes().partition_point(|other| other < hash);
                let rows = start..chunk.row_count();
                let found =
                    rows.take_while(|row| chunk.key_hash(*row) == *hash).filter(|row| chunk.time(*row) <= as_of);
                let (index, before) = (chunks.len(), updates.len());
                updates.extend(found.map(|row| Update::at(chunk, index, row)));
                if updates.len() > before {
                    chunks.push(chunk);
                }
                // The key may go on in the next chunk only if it fills this one to its end.
                if chunk.key_hashes().last().is_some_and(|last| last > hash) {
                    break;
                }
            }
        }
    }
    updates.sort_unstable_by_key(|update| update.identity);
    let mut rows = Consolidate::new(&chunks);
    for update in updates {
        rows.add(update)?;
    }
    rows.finish()
}

/// One update, by where it lies.
#[derive(Clone, Copy)]
struct Update {
    identity: Identity,
    diff: Diff,
    chunk: u32,
    row: u32,
}

impl Update {
    #[inline(always)]
    fn at(chunk: &ArrowChunk, index: usize, row: usize) -> Update {
        Update { identity: chunk.identity(row), diff: chunk.diff(row), chunk: index as u32, row: row as u32 }
    }
}

/// Adds up updates that come in order of identity, and collects the rows that remain.
struct Consolidate<'a> {
    chunks: &'a [&'a ArrowChunk],
    current: Option<Update>,
    /// A stretch of rows of one chunk, each once: chunk, first row, number.
    stretch: (u32, u32, u32),
    gathered: Vec<(u32, u32)>,
    counts: Vec<Diff>,
    parts: Vec<Part>,
}

impl<'a> Consolidate<'a> {
    fn new(chunks: &'a [&'a ArrowChunk]) -> Consolidate<'a> {
        Consolidate {
            chunks,
            current: None,
            stretch: (0, 0, 0),
            gathered: Vec::new(),
            counts: Vec::new(),
            parts: Vec::new(),
        }
    }

    #[inline(always)]
    fn add(&mut self, update: Update) -> Result<(), PgError> {
        if let Some(current) = &mut self.current {
            if current.identity == update.identity {
                current.diff += update.diff;
                return Ok(());
            }
            let complete = *current;
            *current = update;
            return self.take_row(complete);
        }
        self.current = Some(update);
        Ok(())
    }

    #[inline(always)]
    fn take_row(&mut self, row: Update) -> Result<(), PgError> {
        let (chunk, start, len) = self.stretch;
        if row.diff == 1 && row.chunk == chunk && row.row == start + len {
            self.stretch.2 += 1;
            return Ok(());
        }
        match row.diff {
            0 => Ok(()),
            1 => {
                self.end_stretch()?;
                self.stretch = (row.chunk, row.row, 1);
                Ok(())
            }
            count if count > 1 => {
                self.end_stretch()?;
                self.gather(row.chunk, row.row, count)
            }
            count => Err(PgError::internal(format!("a row is there {count} times"))),
        }
    }

    fn end_stretch(&mut self) -> Result<(), PgError> {
        let (chunk, start, len) = std::mem::take(&mut self.stretch);
        if len as usize >= SLICE_ROWS {
            let columns = self.chunks[chunk as usize].columns_of(start as usize, len as usize);
            self.parts.push(Part { columns, counts: Lane::Constant(1, len as usize) });
            return Ok(());
        }
        (start..start + len).try_for_each(|row| self.gather(chunk, row, 1))
    }

    fn gather(&mut self, chunk: u32, row: u32, count: Diff) -> Result<(), PgError> {
        self.gathered.push((chunk, row));
        self.counts.push(count);
        if self.gathered.len() >= GATHER_ROWS { self.copy_gathered() } else { Ok(()) }
    }

    /// Copies the rows collected so far.
    fn copy_gathered(&mut self) -> Result<(), PgError> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            return Ok(());
        }
        let mut sources = SourceList::default();
        let rows: Vec<(usize, usize)> =
            gathered.iter().map(|(chunk, row)| sources.locate(self.chunks[*chunk as usize], *row as usize)).collect();
        let columns = sources.gather(&rows);
        self.parts.push(Part { columns, counts: Lane::Values(std::mem::take(&mut self.counts)).compress() });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Part>, PgError> {
        if let Some(last) = self.current.take() {
            self.take_row(last)?;
        }
        self.end_stretch()?;
        self.copy_gathered()?;
        Ok(self.parts)
    }
}
