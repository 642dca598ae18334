//! Cursors: a query's rows, or a SUBSCRIBE's, fetched piece by piece.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use parking_lot::Mutex;
use repr::{PgError, RelationSchema};

use crate::response::RowStream;

/// How long FETCH of a subscription waits for a first row, and for further ones once it has some.
const PATIENCE: Duration = Duration::from_millis(100);

/// An open cursor.
pub(crate) struct Cursor {
    pub(crate) schema: RelationSchema,
    /// Never locked: the mutex only makes a session, which holds cursors, shareable between threads.
    rows: Mutex<RowStream>,
    waiting: VecDeque<RecordBatch>,
    /// A subscription, which has no end to wait for.
    endless: bool,
    /// Stays open after its transaction.
    pub(crate) hold: bool,
}

impl Cursor {
    pub(crate) fn new(schema: RelationSchema, rows: RowStream, endless: bool, hold: bool) -> Cursor {
        Cursor { schema, rows: Mutex::new(rows), waiting: VecDeque::new(), endless, hold }
    }

    /// The next rows, `count` at most. None is all; of a subscription, all that have come.
    pub(crate) async fn fetch(&mut self, count: Option<u64>) -> Result<Vec<RecordBatch>, PgError> {
        let mut wanted = count.unwrap_or(u64::MAX);
        let mut fetched = Vec::new();
        while wanted > 0 {
            let batch = match self.waiting.pop_front() {
                Some(batch) => batch,
                None => match self.next().await {
                    Some(batch) => batch?,
                    None => break,
                },
            };
            let rows = batch.num_rows() as u64;
            if rows > wanted {
                let taken = wanted as usize;
                self.waiting.push_front(batch.slice(taken, batch.num_rows() - taken));
                fetched.push(batch.slice(0, taken));
                break;
            }
            wanted -= rows;
            fetched.push(batch);
        }
        Ok(fetched)
    }

    async fn next(&mut self) -> Option<Result<RecordBatch, PgError>> {
        if !self.endless {
            return self.rows.get_mut().next().await;
        }
        tokio::time::timeout(PATIENCE, self.rows.get_mut().next()).await.unwrap_or(None)
    }
}
