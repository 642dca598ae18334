//! What operators over groups share: rows of one key in order, across many batches, and rows on their way out.

use arrow::array::ArrayRef;
use repr::{Diff, Lane, Timestamp};
use smallvec::SmallVec;

use crate::arrange::Batch;
use crate::chunk::{ArrowChunk, CHUNK_ROWS_MAX, Column, Source, SourceList, gallop};
use crate::cursor::{Position, first_not};
use crate::updates::Updates;

/// A row that is there, some number of times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub(crate) rank: u64,
    pub(crate) hash: u64,
    pub(crate) count: Diff,
    pub(crate) place: Place,
}

/// Where one copy of a row lies: batch, chunk, row of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) batch: u32,
    pub(crate) chunk: u32,
    pub(crate) row: u32,
}

impl Place {
    /// The chunk among `batches`.
    pub(crate) fn chunk<'a>(&self, batches: &'a [Batch]) -> &'a ArrowChunk {
        &batches[self.batch as usize].chunks[self.chunk as usize]
    }

    /// A column, and the row in it.
    pub(crate) fn value<'a>(&self, batches: &'a [Batch], column: usize) -> (&'a Column, usize) {
        let (source, row) = self.chunk(batches).locate(self.row as usize);
        (&source.columns()[column], row)
    }
}

/// Whether two rows agree on all `columns`; NULL agrees with NULL.
pub(crate) fn same_key(batches: &[Batch], left: Place, right: Place, columns: &[usize]) -> bool {
    columns.iter().all(|column| {
        let ((left, i), (right, j)) = (left.value(batches, *column), right.value(batches, *column));
        left.compare(i, right, j, false, true).is_eq()
    })
}

/// Where a batch's rows of one key hash start: the batch's index and the position.
type Start = (u32, Position);

/// The rows of one key in order of (rank, row hash), added up over batches.
pub(crate) struct GroupWalk<'a> {
    batches: &'a [Batch],
    /// Where it stands in each batch that has rows of the key hash.
    at: SmallVec<[Start; 8]>,
    /// The key's hash.
    hash: u64,
    /// A row of the key itself, and the key's columns: others may share the hash.
    sample: Place,
    key: &'a [usize],
    /// The last batch counts only up to this time.
    until: Timestamp,
}

impl GroupWalk<'_> {
    /// The (rank, row hash) of the next row, be it live or not.
    #[inline]
    fn head(&self) -> Option<(u64, u64)> {
        let heads = self.at.iter().filter_map(|(batch, position)| {
            let chunks = &self.batches[*batch as usize].chunks;
            let chunk = chunks.get(position.chunk).filter(|chunk| chunk.key_hash(position.row) == self.hash)?;
            Some((chunk.rank(position.row), chunk.row_hash(position.row)))
        });
        heads.min()
    }

    /// Whether the next row, be it live or not, has this rank.
    pub(crate) fn next_has_rank(&self, rank: u64) -> bool {
        self.head().is_some_and(|head| head.0 == rank)
    }
}

impl Iterator for GroupWalk<'_> {
    type Item = Live;

    /// The next row with a positive count.
    fn next(&mut self) -> Option<Live> {
        let last = self.batches.len() - 1;
        loop {
            let (rank, hash) = self.head()?;
            let mut live = Live { rank, hash, count: 0, place: self.sample };
            for (batch, position) in &mut self.at {
                let chunks = &self.batches[*batch as usize].chunks;
                while position.key(chunks) == Some(self.hash) {
                    let chunk = &chunks[position.chunk];
                    if (chunk.rank(position.row), chunk.row_hash(position.row)) != (rank, hash) {
                        break;
                    }
                    if (*batch as usize) < last || chunk.time(position.row) <= self.until {
                        live.count += chunk.diff(position.row);
                        live.place = Place { batch: *batch, chunk: position.chunk as u32, row: position.row as u32 };
                    }
                    position.step(chunks);
                }
            }
            if live.count > 0
                && (live.place == self.sample || same_key(self.batches, live.place, self.sample, self.key))
            {
                return Some(live);
            }
        }
    }
}

/// A part of a group that lies together: rows of one chunk.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    chunk: &'a ArrowChunk,
    /// The first row.
    pub(crate) start: usize,
    /// The first row behind it.
    pub(crate) end: usize,
    /// Later updates do not count.
    until: Option<Timestamp>,
}

impl Stretch<'_> {
    /// The first row of at least that rank; the end if there is none.
    pub(crate) fn seek(&self, rank: u64) -> usize {
        first_not(self.start, self.end, |row| self.chunk.rank(row) < rank)
    }

    /// How many copies the updates from row `from` up to row `to` add.
    pub(crate) fn count(&self, from: usize, to: usize) -> Diff {
        match self.until {
            None => self.chunk.copies_between(from, to),
            Some(until) => {
                (from..to).filter(|row| self.chunk.time(*row) <= until).map(|row| self.chunk.diff(row)).sum()
            }
        }
    }
}

/// A stretch of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranks {
    /// The first.
    pub(crate) start: u64,
    /// The first behind it, if there is one.
    pub(crate) end: Option<u64>,
}

/// One group that a batch changes.
pub(crate) struct ChangedGroup<'a> {
    /// The prior batches, and the new one last.
    pub(crate) batches: &'a [Batch],
    /// The key's hash.
    pub(crate) hash: u64,
    /// A row of the group in the new batch.
    pub(crate) sample: Place,
    /// When the group changes, ascending.
    pub(crate) times: &'a [Timestamp],
    /// Those that have rows of the key hash, the new one last.
    starts: &'a [Start],
    /// The key's columns.
    key: &'a [usize],
}

impl<'a> ChangedGroup<'a> {
    /// The group's rows as of a time, or before the batch, in order.
    pub(crate) fn rows(&self, until: Option<Timestamp>) -> GroupWalk<'a> {
        let starts = if until.is_some() { self.starts } else { &self.starts[..self.starts.len() - 1] };
        GroupWalk {
            batches: self.batches,
            at: SmallVec::from_slice(starts),
            hash: self.hash,
            sample: self.sample,
            key: self.key,
            until: until.unwrap_or(0),
        }
    }

    /// Those of [`ChangedGroup::rows`] whose ranks lie in `ranks`.
    pub(crate) fn rows_between(&self, until: Option<Timestamp>, ranks: Ranks) -> impl Iterator<Item = Live> {
        let mut walk = self.rows(until);
        for (batch, position) in &mut walk.at {
            position.seek_rank(&self.batches[*batch as usize].chunks, self.hash, ranks.start);
        }
        walk.take_while(move |live| ranks.end.is_none_or(|end| live.rank < end))
    }

    /// The ranks of the rows that the batch changes at `time`, ascending; perhaps also of rows that share the key's hash.
    pub(crate) fn ranks_changed(&self, time: Timestamp, as_of: Timestamp) -> Vec<u64> {
        let Some((novel, (_, start))) = self.batches.last().zip(self.starts.last()) else { return Vec::new() };
        let mut at = *start;
        let mut ranks = Vec::new();
        while at.key(&novel.chunks) == Some(self.hash) {
            let chunk = &novel.chunks[at.chunk];
            let rank = chunk.rank(at.row);
            if chunk.time(at.row).max(as_of) == time && ranks.last() != Some(&rank) {
                ranks.push(rank);
            }
            at.step(&novel.chunks);
        }
        ranks
    }

    /// The rows of the key's hash as of a time, or before the batch, where they lie.
    pub(crate) fn stretches(&self, until: Option<Timestamp>) -> Vec<Stretch<'a>> {
        let last = self.batches.len() - 1;
        let starts = if until.is_some() { self.starts } else { &self.starts[..self.starts.len() - 1] };
        let mut stretches = Vec::new();
        for (batch, start) in starts {
            let until = until.filter(|_| *batch as usize == last);
            let mut at = *start;
            for chunk in &self.batches[*batch as usize].chunks[start.chunk..] {
                let hashes = chunk.key_hashes();
                let end = gallop(hashes, at.row, |hash| *hash == self.hash);
                if end > at.row {
                    stretches.push(Stretch { chunk, start: at.row, end, until });
                }
                if end < hashes.len() {
                    break;
                }
                at.row = 0;
            }
        }
        stretches
    }

    /// Whether another key of the same hash is in the batch, or was first in an earlier one.
    pub(crate) fn shares_its_hash(&self) -> bool {
        let Some(((last, novel), prior)) = self.starts.split_last() else { return false };
        let differs = |place: Place| !same_key(self.batches, place, self.sample, self.key);
        let place = |batch: u32, at: &Position| Place { batch, chunk: at.chunk as u32, row: at.row as u32 };
        if prior.iter().any(|(batch, at)| differs(place(*batch, at))) {
            return true;
        }
        let chunks = &self.batches[*last as usize].chunks;
        let mut at = *novel;
        while at.key(chunks) == Some(self.hash) {
            if differs(place(*last, &at)) {
                return true;
            }
            at.step(chunks);
        }
        false
    }

    /// Whether the group had no row of any count before the batch.
    pub(crate) fn is_new(&self) -> bool {
        self.starts.len() == 1
    }
}

/// Calls `visit` for each group that the last of `batches` changes.
pub(crate) fn changed_groups(
    batches: &[Batch],
    key: &[usize],
    as_of: Timestamp,
    mut visit: impl FnMut(ChangedGroup<'_>),
) {
    let Some((novel, prior)) = batches.split_last() else { return };
    let last = prior.len() as u32;
    let mut positions = vec![Position::default(); prior.len()];
    let mut starts: Vec<Start> = Vec::new();
    let mut samples: SmallVec<[(Place, SmallVec<[Timestamp; 4]>); 1]> = SmallVec::new();
    let mut at = Position::default();
    while let Some(hash) = at.key(&novel.chunks) {
        starts.clear();
        for (index, (batch, position)) in prior.iter().zip(&mut positions).enumerate() {
            position.seek(&batch.chunks, hash);
            if position.key(&batch.chunks) == Some(hash) {
                starts.push((index as u32, *position));
            }
        }
        starts.push((last, at));
        samples.clear();
        while at.key(&novel.chunks) == Some(hash) {
            let place = Place { batch: last, chunk: at.chunk as u32, row: at.row as u32 };
            let time = novel.chunks[at.chunk].time(at.row).max(as_of);
            // Nearly always there is one key a hash.
            match samples.iter_mut().find(|(sample, _)| same_key(batches, *sample, place, key)) {
                Some((_, times)) if times.last() == Some(&time) => {}
                Some((_, times)) => times.push(time),
                None => samples.push((place, SmallVec::from_slice(&[time]))),
            }
            at.step(&novel.chunks);
        }
        for (sample, times) in &mut samples {
            times.sort_unstable();
            times.dedup();
            visit(ChangedGroup { batches, hash, sample: *sample, times, starts: &starts, key });
        }
    }
}

/// Rows picked from batches for one gather a column.
#[derive(Default)]
pub(crate) struct Picked {
    sources: SourceList,
    /// The rows, as `(source, row)`.
    pub(crate) rows: Vec<(usize, usize)>,
}

impl Picked {
    /// Where the row is among the sources; valid until [`Picked::clear`].
    #[inline]
    pub(crate) fn locate(&mut self, batches: &[Batch], place: Place) -> (usize, usize) {
        self.sources.locate(place.chunk(batches), place.row as usize)
    }

    /// One column of the picked rows.
    pub(crate) fn column(&self, column: usize) -> ArrayRef {
        self.sources.column(column, &self.rows)
    }

    /// All columns of the picked rows.
    pub(crate) fn columns(&self) -> Vec<ArrayRef> {
        self.sources.gather(&self.rows)
    }

    /// Forgets rows and sources.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.sources.truncate(0);
    }
}

/// Rows on their way out, cut into containers.
#[derive(Default)]
pub(crate) struct OutputRows {
    picked: Picked,
    times: Vec<Timestamp>,
    diffs: Vec<Diff>,
}

impl OutputRows {
    /// Appends a row.
    pub(crate) fn push(
        &mut self,
        batches: &[Batch],
        place: Place,
        time: Timestamp,
        diff: Diff,
        out: &mut Vec<Updates>,
    ) {
        let row = self.picked.locate(batches, place);
        self.picked.rows.push(row);
        self.times.push(time);
        self.diffs.push(diff);
        if self.times.len() >= CHUNK_ROWS_MAX {
            self.flush(out);
        }
    }

    /// Cuts a container from what is there.
    pub(crate) fn flush(&mut self, out: &mut Vec<Updates>) {
        if self.times.is_empty() {
            return;
        }
        let times = Lane::Values(std::mem::take(&mut self.times)).compress();
        let diffs = Lane::Values(std::mem::take(&mut self.diffs)).compress();
        out.push(Updates::new(self.picked.columns(), times, diffs));
        self.picked.clear();
    }
}

/// Rows made of parts of several rows: one gather a column, NULL where a part is missing.
pub(crate) struct PatchedRows {
    sources: SourceList,
    /// Of each output row, its parts.
    parts: Vec<Vec<(usize, usize)>>,
    times: Vec<Timestamp>,
    diffs: Vec<Diff>,
}

impl PatchedRows {
    /// Rows of `part_count` parts; `nulls` is a row of NULLs of the sources' column types.
    pub(crate) fn new(part_count: usize, nulls: Vec<ArrayRef>) -> PatchedRows {
        PatchedRows {
            sources: SourceList::starting_with(Source::new(nulls, 1, None)),
            parts: vec![Vec::new(); part_count],
            times: Vec::new(),
            diffs: Vec::new(),
        }
    }

    /// Appends a row.
    pub(crate) fn push(&mut self, batches: &[Batch], row: &[Option<Live>], time: Timestamp, diff: Diff) {
        for (index, part) in row.iter().enumerate() {
            let location = match part {
                None => (0, 0),
                Some(Live { place, .. }) => self.sources.locate(place.chunk(batches), place.row as usize),
            };
            self.parts[index].push(location);
        }
        self.times.push(time);
        self.diffs.push(diff);
    }

    /// The number of rows that wait.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Cuts a container: output column `i` is column `columns[i].1` of part `columns[i].0`.
    pub(crate) fn flush(&mut self, columns: &[(usize, usize)], out: &mut Vec<Updates>) {
        if self.times.is_empty() {
            return;
        }
        let columns = columns.iter().map(|(part, column)| self.sources.column(*column, &self.parts[*part])).collect();
        out.push(Updates::new(
            columns,
            Lane::Values(std::mem::take(&mut self.times)).compress(),
            Lane::Values(std::mem::take(&mut self.diffs)).compress(),
        ));
        self.parts.iter_mut().for_each(Vec::clear);
        self.sources.truncate(1);
    }
}
