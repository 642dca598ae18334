//! A large partition in blocks: how many rows each has and what they come to, so that a change is evaluated where it is.
//!
//! A block is a stretch of ranks, so that peers are always in one block. It keeps no rows: those are read from the
//! arrangement, from the block's first rank on. The state of a partition of n rows is n / 256 such entries; small
//! partitions have none and are evaluated whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use repr::PgError;

use super::function::{Functions, Partial};
use super::sorted::Sorted;
use crate::arrange::Batch;
use crate::render::group::{Live, Ranks};

/// Rows from which on a partition is kept in blocks; below a quarter of it no longer.
const LARGE_ROWS: usize = 1024;
/// Rows of a block when it is made.
const BLOCK_ROWS: usize = 256;

/// Whether so many rows are worth blocks.
pub(super) fn is_large(row_count: usize) -> bool {
    row_count >= LARGE_ROWS
}

/// The blocks of a partition, in order.
pub(super) struct Blocks {
    blocks: Vec<Block>,
}

#[derive(Clone)]
struct Block {
    /// It ends where the next one begins; the first begins before all ranks.
    first_rank: u64,
    /// Copies of rows.
    row_count: usize,
    /// What its rows come to, a call; nothing where no call wants to know.
    partials: Vec<Partial>,
}

/// A stretch of a partition that has to be evaluated.
pub(super) struct Region {
    pub(super) ranks: Ranks,
    /// What the rows before it come to, before and after the change.
    pub(super) prefixes: [Vec<Partial>; 2],
    /// Rows at either end that are there for others to look at; their own values would be wrong.
    pub(super) margins: (usize, usize),
}

/// What blocks become.
pub(super) struct Change {
    /// Each changed block's successors.
    replacements: BTreeMap<usize, Vec<Block>>,
}

impl Blocks {
    /// The blocks of a partition's rows, in order of rank; None if they would be a single one.
    pub(super) fn new(functions: &Functions, batches: &[Batch], rows: &[Live]) -> Result<Option<Blocks>, PgError> {
        let all = 0..rows.len();
        let mut blocks = cut(functions, batches, rows, std::slice::from_ref(&all))?.remove(0);
        if let Some(first) = blocks.first_mut() {
            first.first_rank = 0;
        }
        Ok((blocks.len() > 1).then_some(Blocks { blocks }))
    }

    /// The blocks that have those ranks.
    pub(super) fn touched(&self, ranks: &[u64]) -> BTreeSet<usize> {
        let at = |rank: &u64| self.blocks.partition_point(|block| block.first_rank <= *rank).saturating_sub(1);
        ranks.iter().map(at).collect()
    }

    /// The ranks of a stretch of blocks.
    pub(super) fn ranks(&self, blocks: Range<usize>) -> Ranks {
        Ranks {
            start: self.blocks[blocks.start].first_rank,
            end: self.blocks.get(blocks.end).map(|end| end.first_rank),
        }
    }

    /// What `touched` blocks become that now have `rows`, each those of its range.
    pub(super) fn change(
        &self,
        functions: &Functions,
        batches: &[Batch],
        touched: &BTreeSet<usize>,
        rows: &[Live],
        ranges: &[Range<usize>],
    ) -> Result<Change, PgError> {
        let mut replacements = BTreeMap::new();
        for (index, mut blocks) in touched.iter().zip(cut(functions, batches, rows, ranges)?) {
            if let Some(first) = blocks.first_mut() {
                first.first_rank = self.blocks[*index].first_rank;
            }
            replacements.insert(*index, blocks);
        }
        Ok(Change { replacements })
    }

    /// The stretches whose values `change` may alter, with what is around them.
    pub(super) fn regions(&self, functions: &Functions, change: &Change) -> Result<Vec<Region>, PgError> {
        let Some((first, last)) = change.replacements.keys().next().zip(change.replacements.keys().next_back()) else {
            return Ok(Vec::new());
        };
        let (before, after) = functions.neighbours();
        let margin = before + after;
        let start = self.back(*first, margin, change);
        let prefix = functions.add_up(self.blocks[..start].iter().map(|block| &block.partials[..]))?;
        let mut prefixes = vec![[prefix.clone(), prefix]];
        let mut stretches: Vec<Range<usize>> = Vec::new();
        for index in start..self.blocks.len() {
            let [old, new] = &prefixes[index - start];
            let replacement = change.replacements.get(&index);
            if replacement.is_some() || old != new {
                let stretch = self.back(index, margin, change)..self.forward(index + 1, margin, change);
                match stretches.last_mut() {
                    Some(last) if last.end >= stretch.start => last.end = last.end.max(stretch.end),
                    _ => stretches.push(stretch),
                }
            } else if index > *last {
                break;
            }
            let own = &self.blocks[index].partials;
            let next_old = functions.add_up([&old[..], &own[..]].into_iter())?;
            let next_new = match replacement {
                None if old == new => next_old.clone(),
                None => functions.add_up([&new[..], &own[..]].into_iter())?,
                Some(blocks) => {
                    let parts = blocks.iter().map(|block| &block.partials[..]);
                    functions.add_up([&new[..]].into_iter().chain(parts))?
                }
            };
            prefixes.push([next_old, next_new]);
        }
        let regions = stretches.into_iter().map(|stretch| Region {
            prefixes: prefixes[stretch.start - start].clone(),
            margins: (
                if stretch.start == 0 { 0 } else { before },
                if stretch.end == self.blocks.len() { 0 } else { after },
            ),
            ranks: self.ranks(stretch),
        });
        Ok(regions.collect())
    }

    /// The block to begin with so that `margin` unchanged rows come before block `index`.
    fn back(&self, mut index: usize, margin: usize, change: &Change) -> usize {
        let mut missing = margin;
        while index > 0 && missing > 0 {
            index -= 1;
            if !change.replacements.contains_key(&index) {
                missing = missing.saturating_sub(self.blocks[index].row_count);
            }
        }
        index
    }

    /// The block to end before so that `margin` unchanged rows come from block `index` on.
    fn forward(&self, mut index: usize, margin: usize, change: &Change) -> usize {
        let mut missing = margin;
        while index < self.blocks.len() && missing > 0 {
            if !change.replacements.contains_key(&index) {
                missing = missing.saturating_sub(self.blocks[index].row_count);
            }
            index += 1;
        }
        index
    }

    /// Makes the change; false if the partition is no longer worth blocks.
    pub(super) fn apply(&mut self, functions: &Functions, change: Change) -> Result<bool, PgError> {
        for (index, blocks) in change.replacements.into_iter().rev() {
            self.blocks.splice(index..index + 1, blocks);
        }
        self.merge(functions)?;
        if let Some(first) = self.blocks.first_mut() {
            first.first_rank = 0;
        }
        let row_count: usize = self.blocks.iter().map(|block| block.row_count).sum();
        Ok(self.blocks.len() > 1 && row_count >= LARGE_ROWS / 4)
    }

    /// Puts small neighbours together.
    fn merge(&mut self, functions: &Functions) -> Result<(), PgError> {
        let mut index = 1;
        while index < self.blocks.len() {
            let (left, right) = (&self.blocks[index - 1], &self.blocks[index]);
            let row_count = left.row_count + right.row_count;
            if row_count > BLOCK_ROWS / 2 {
                index += 1;
                continue;
            }
            let partials = functions.add_up([&left.partials[..], &right.partials[..]].into_iter())?;
            let first_rank = left.first_rank;
            self.blocks.splice(index - 1..index + 1, [Block { first_rank, row_count, partials }]);
        }
        Ok(())
    }
}

/// The rows of each of `ranges` as blocks: cut where a rank begins, and only where there are many.
fn cut(
    functions: &Functions,
    batches: &[Batch],
    rows: &[Live],
    ranges: &[Range<usize>],
) -> Result<Vec<Vec<Block>>, PgError> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut cuts: Vec<Vec<(u64, usize)>> = Vec::new();
    for range in ranges {
        let total: usize = rows[range.clone()].iter().map(|row| row.count as usize).sum();
        let most = if total > 2 * BLOCK_ROWS { BLOCK_ROWS } else { usize::MAX };
        let mut blocks: Vec<(u64, usize)> = Vec::new();
        for index in range.clone() {
            let row = &rows[index];
            let fits = index > range.start && {
                let full = blocks.last().is_some_and(|block| block.1 >= most);
                !(full && rows[index - 1].rank != row.rank)
            };
            match (fits, blocks.last_mut(), pieces.last_mut()) {
                (true, Some(block), Some(piece)) => {
                    block.1 += row.count as usize;
                    piece.end = index + 1;
                }
                _ => {
                    blocks.push((row.rank, row.count as usize));
                    pieces.push(index..index + 1);
                }
            }
        }
        cuts.push(blocks);
    }
    let mut partials = match functions.is_running() {
        false => vec![Vec::new(); pieces.len()],
        true => {
            let sorted = Sorted::new(functions, batches, rows, &pieces);
            let ranges = sorted.bounds.iter();
            ranges.map(|range| functions.partials(&sorted.columns, range.clone())).collect::<Result<Vec<_>, _>>()?
        }
    }
    .into_iter();
    let blocks = cuts.into_iter().map(|blocks| {
        let blocks = blocks.into_iter().map(|(first_rank, row_count)| Block {
            first_rank,
            row_count,
            partials: partials.next().unwrap_or_default(),
        });
        blocks.collect()
    });
    Ok(blocks.collect())
}
