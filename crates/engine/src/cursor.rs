//! Cursors: a query's rows, or a SUBSCRIBE's, fetched piece by piece.
//!
//! ```text
//! seen: rows that were fetched, as far as they are kept     ahead: a batch cut in two    rows: what is yet to come
//! |------------------------------------------^--------------|---------------------------|------------ ..
//! forgotten                                  position
//! ```
//!
//! Positions count rows from 1; 0 is before the first, one past the last is after it. Rows come from the query once, in one
//! direction. To go back they are kept: all of them for SCROLL, and where neither SCROLL nor NO SCROLL was said as long as
//! they are few, as PostgreSQL lets such a cursor go back where that is cheap.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use parking_lot::Mutex;
use repr::{PgError, RelationSchema, SqlState};
use sql::parse::FetchDirection;
use tokio::time::Instant;

use crate::response::RowStream;

/// How long FETCH of a subscription waits for a first row, and for further ones once it has some.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long it goes on at most where rows come all the time and no timeout was said.
const ENDURANCE: Duration = Duration::from_secs(1);

/// Rows that are passed at a time without being returned.
const PASSED_ROWS: u64 = 8192;

/// What a cursor keeps to go back where SCROLL was not said.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Which rows a cursor keeps once they were fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scroll {
    /// All: SCROLL.
    Yes,
    /// None: NO SCROLL, and subscriptions.
    No,
    /// All while they are few.
    Unsaid,
}

/// An open cursor.
pub(crate) struct Cursor {
    pub(crate) schema: RelationSchema,
    /// Never locked: the mutex only makes a session, which holds cursors, shareable between threads.
    rows: Mutex<RowStream>,
    /// Rows before `forgotten + seen` have come from the query.
    seen: VecDeque<RecordBatch>,
    seen_bytes: usize,
    /// Rows that are kept no more; they come before those in `seen`.
    forgotten: i64,
    /// What has come from the query and is behind those in `seen`.
    ahead: Option<RecordBatch>,
    /// Where the cursor stands.
    position: i64,
    /// The query has no more rows; there are this many.
    end: Option<i64>,
    scroll: Scroll,
    /// A subscription, which has no end to wait for.
    endless: bool,
    /// Stays open after its transaction.
    pub(crate) hold: bool,
}

impl Cursor {
    pub(crate) fn new(schema: RelationSchema, rows: RowStream, endless: bool, scroll: Scroll, hold: bool) -> Cursor {
        Cursor {
            schema,
            rows: Mutex::new(rows),
            seen: VecDeque::new(),
            seen_bytes: 0,
            forgotten: 0,
            ahead: None,
            position: 0,
            end: None,
            scroll: if endless { Scroll::No } else { scroll },
            endless,
            hold,
        }
    }

    /// Goes there and returns the rows on the way, as FETCH does; those of the way back last first. A subscription waits
    /// until `timeout` for as many rows as are wanted, and without one only for the first.
    ///
    /// Errors: `55000` for a way back over rows that are not kept, and those of the query.
    pub(crate) async fn fetch(
        &mut self,
        direction: FetchDirection,
        timeout: Option<Duration>,
    ) -> Result<Vec<RecordBatch>, PgError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        match direction {
            FetchDirection::Forward(0) | FetchDirection::Backward(0) | FetchDirection::Relative(0) => self.again(),
            FetchDirection::Forward(count) => self.forward(Some(count), deadline).await,
            FetchDirection::ForwardAll => self.forward(None, deadline).await,
            FetchDirection::Backward(count) => self.backward(Some(count)),
            FetchDirection::BackwardAll => self.backward(None),
            FetchDirection::Absolute(position) => self.absolute(position, deadline).await,
            FetchDirection::Relative(distance) => {
                let target = self.position.saturating_add(distance);
                match target < 0 {
                    true => self.absolute_from_start(0, deadline).await,
                    false => self.absolute_from_start(target, deadline).await,
                }
            }
        }
    }

    /// How many rows MOVE in this direction passes.
    pub(crate) async fn advance(
        &mut self,
        direction: FetchDirection,
        timeout: Option<Duration>,
    ) -> Result<u64, PgError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        match direction {
            FetchDirection::Forward(count) if count > 0 => self.pass(count, deadline).await,
            FetchDirection::ForwardAll => self.pass(u64::MAX, deadline).await,
            direction => Ok(row_count(&self.fetch(direction, timeout).await?)),
        }
    }

    /// Goes forward without gathering the rows.
    async fn pass(&mut self, count: u64, deadline: Option<Instant>) -> Result<u64, PgError> {
        let mut passed = 0;
        while passed < count {
            let wanted = (count - passed).min(PASSED_ROWS);
            let rows = row_count(&self.forward(Some(wanted), deadline).await?);
            passed += rows;
            if rows < wanted {
                break;
            }
        }
        Ok(passed)
    }

    /// The row that the cursor stands on.
    fn again(&mut self) -> Result<Vec<RecordBatch>, PgError> {
        if self.position == 0 || self.end.is_some_and(|end| self.position > end) {
            return Ok(Vec::new());
        }
        let (first, last) = (self.position - 1, self.position);
        self.kept(first, last)
    }

    async fn forward(&mut self, count: Option<u64>, deadline: Option<Instant>) -> Result<Vec<RecordBatch>, PgError> {
        let mut wanted = count.unwrap_or(u64::MAX);
        let mut fetched = Vec::new();
        // Rows that have come already, if the cursor had gone back.
        let known = (self.forgotten + self.seen_rows()) - self.position;
        if known > 0 {
            let taken = i64::try_from(wanted).unwrap_or(i64::MAX).min(known);
            fetched = self.kept(self.position, self.position + taken)?;
            self.position += taken;
            wanted -= taken as u64;
        }
        let last_moment = deadline.unwrap_or_else(|| Instant::now() + ENDURANCE);
        while wanted > 0 && !(self.endless && !fetched.is_empty() && Instant::now() >= last_moment) {
            let Some(batch) = self.next(deadline).await? else {
                // Past the last row, unless more may come.
                if !self.endless {
                    self.position = self.forgotten + self.seen_rows() + 1;
                    self.end = Some(self.position - 1);
                }
                break;
            };
            let rows = batch.num_rows() as u64;
            let batch = match rows > wanted {
                true => {
                    let taken = wanted as usize;
                    self.ahead = Some(batch.slice(taken, batch.num_rows() - taken));
                    batch.slice(0, taken)
                }
                false => batch,
            };
            wanted -= batch.num_rows() as u64;
            self.position += batch.num_rows() as i64;
            self.keep(batch.clone());
            fetched.push(batch);
        }
        Ok(fetched)
    }

    fn backward(&mut self, count: Option<u64>) -> Result<Vec<RecordBatch>, PgError> {
        let count = count.map_or(i64::MAX, |count| i64::try_from(count).unwrap_or(i64::MAX));
        // The row that the cursor stands on is not among those before it.
        let last = (self.position - 1).max(0);
        let first = last.saturating_sub(count).max(0);
        let reached_start = count > last;
        let rows = self.kept(first, last)?;
        self.position = if reached_start { 0 } else { first + 1 };
        let reversed = rows.iter().rev().map(|batch| {
            let indexes = arrow::array::UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
            arrow::compute::take_record_batch(batch, &indexes).map_err(|error| PgError::internal(error.to_string()))
        });
        reversed.collect()
    }

    async fn absolute(&mut self, position: i64, deadline: Option<Instant>) -> Result<Vec<RecordBatch>, PgError> {
        if position >= 0 {
            return self.absolute_from_start(position, deadline).await;
        }
        // Counted from the end, which must be seen first.
        if self.endless {
            return Err(PgError::unsupported("FETCH from the end of a SUBSCRIBE"));
        }
        self.require_scroll()?;
        self.pass(u64::MAX, deadline).await?;
        let end = self.forgotten + self.seen_rows();
        self.absolute_from_start((end + 1).saturating_add(position).max(0), deadline).await
    }

    async fn absolute_from_start(
        &mut self,
        position: i64,
        deadline: Option<Instant>,
    ) -> Result<Vec<RecordBatch>, PgError> {
        if position <= self.position {
            if position == 0 {
                self.kept(0, 0)?;
                self.position = 0;
                return Ok(Vec::new());
            }
            let row = self.kept(position - 1, position)?;
            self.position = position;
            return Ok(row);
        }
        let passed = position - self.position - 1;
        if passed > 0 {
            self.pass(passed as u64, deadline).await?;
        }
        self.forward(Some(1), deadline).await
    }

    fn require_scroll(&self) -> Result<(), PgError> {
        match self.scroll {
            Scroll::No => Err(only_forward()),
            Scroll::Yes | Scroll::Unsaid => Ok(()),
        }
    }

    /// Rows `first` (from 0) up to, not with, `last`, which have come from the query. Errors: `55000` if they are not kept.
    fn kept(&self, first: i64, last: i64) -> Result<Vec<RecordBatch>, PgError> {
        if first < self.forgotten && first < last || self.scroll == Scroll::No && last < self.position {
            return Err(only_forward());
        }
        let mut start = self.forgotten;
        let mut rows = Vec::new();
        for batch in &self.seen {
            let end = start + batch.num_rows() as i64;
            let (from, to) = (first.max(start), last.min(end));
            if from < to {
                rows.push(batch.slice((from - start) as usize, (to - from) as usize));
            }
            start = end;
        }
        Ok(rows)
    }

    fn keep(&mut self, batch: RecordBatch) {
        let bytes: usize =
            batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        self.seen_bytes += bytes;
        self.seen.push_back(batch);
        let few = self.scroll == Scroll::Unsaid && self.seen_bytes <= KEPT_BYTES_MAX;
        if self.scroll == Scroll::Yes || few {
            return;
        }
        // The row that the cursor stands on can always be had again.
        self.scroll = Scroll::No;
        while self.seen.len() > 1
            && let Some(batch) = self.seen.pop_front()
        {
            self.forgotten += batch.num_rows() as i64;
        }
    }

    fn seen_rows(&self) -> i64 {
        self.seen.iter().map(|batch| batch.num_rows() as i64).sum()
    }

    async fn next(&mut self, deadline: Option<Instant>) -> Result<Option<RecordBatch>, PgError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        if self.end.is_some() {
            return Ok(None);
        }
        let rows = self.rows.get_mut();
        let next = match (self.endless, deadline) {
            (false, _) => rows.next().await,
            (true, Some(deadline)) => tokio::time::timeout_at(deadline, rows.next()).await.unwrap_or(None),
            (true, None) => tokio::time::timeout(PATIENCE, rows.next()).await.unwrap_or(None),
        };
        next.transpose()
    }
}

fn row_count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

fn only_forward() -> PgError {
    PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
        .with_hint("Declare it with SCROLL option to enable backward scan.")
}
