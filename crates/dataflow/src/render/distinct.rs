//! DISTINCT and Threshold: a row's count decides how many copies come out. O(1) a changed row; no row is built.

use repr::Timestamp;

use super::group::{OutputRows, Place};
use super::{BatchLogic, Output};
use crate::arrange::Batch;
use crate::cursor::{Cursor, Position};

/// Maps each row's count to the copies that come out.
pub(crate) struct Counted {
    copies: fn(i64) -> i64,
}

impl Counted {
    /// `copies` is 0 at 0.
    pub(crate) fn new(copies: fn(i64) -> i64) -> Counted {
        Counted { copies }
    }
}

impl BatchLogic for Counted {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut before = Cursor::new(prior.to_vec());
        let batches = std::slice::from_ref(novel);
        let mut rows = OutputRows::default();
        let mut at = Position::default();
        while at.key(&novel.chunks).is_some() {
            let identity = novel.chunks[at.chunk].identity(at.row);
            let mut count = count_before(&mut before, identity.0, identity.2);
            let place = Place { batch: 0, chunk: at.chunk as u32, row: at.row as u32 };
            while at.key(&novel.chunks).is_some() {
                let chunk = &novel.chunks[at.chunk];
                if chunk.identity(at.row) != identity {
                    break;
                }
                let change = (self.copies)(count + chunk.diff(at.row)) - (self.copies)(count);
                count += chunk.diff(at.row);
                if change != 0 {
                    rows.push(batches, place, chunk.time(at.row).max(as_of), change, &mut output.updates);
                }
                at.step(&novel.chunks);
            }
        }
        rows.flush(&mut output.updates);
    }
}

/// How many copies of a row there are in all batches of `cursor`, which only moves forward.
fn count_before(cursor: &mut Cursor, key: u64, row: u64) -> i64 {
    cursor.seek(key);
    let mut count = 0;
    for (batch, position) in cursor.batches.iter().zip(&cursor.positions) {
        let mut at = *position;
        while at.key(&batch.chunks) == Some(key) {
            let chunk = &batch.chunks[at.chunk];
            if chunk.row_hash(at.row) == row {
                count += chunk.diff(at.row);
            }
            at.step(&batch.chunks);
        }
    }
    count
}
