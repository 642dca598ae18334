//! Sending a stream of result batches, as it comes.
//!
//! One loop serves SELECT, FETCH, SUBSCRIBE and COPY TO: rows are written into the output as long as batches are ready,
//! and whatever is written is sent before waiting for more. So a big SELECT goes out in big writes, and each batch of a
//! SUBSCRIBE leaves as soon as it is there. While waiting, the client's end of the socket is watched: a client that has
//! vanished ends the work.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use engine::{CopyFormat, CopyOptions, RowStream, RowsTag};
use futures::{FutureExt, StreamExt};
use repr::text::FormatOptions;
use repr::{PgError, RelationSchema, SqlState};
use tokio::time::sleep;

use crate::pg::connection::{Connection, End, Stop};
use crate::pg::copy::{copy_end, copy_row, copy_start};
use crate::pg::encode::{Format, Rows};
use crate::pg::message;

/// How long a first batch may take before the row description is sent ahead of it.
const DESCRIPTION_DELAY: Duration = Duration::from_millis(2);

/// How long a query that is sending its answer may go on once the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// The same for what never ends by itself.
const DRAIN_ENDLESS: Duration = Duration::from_millis(100);

/// Result rows on their way, possibly paused by a client that wants only so many at a time.
pub(crate) struct RowCursor {
    schema: RelationSchema,
    rows: RowStream,
    form: Form,
    options: FormatOptions,
    /// A batch whose rows before the index have been sent.
    partial: Option<(RecordBatch, usize)>,
    /// Once something is sent nothing made later waits.
    sending: bool,
}

enum Form {
    DataRows { formats: Vec<Format>, tag: RowsTag },
    Copy(CopyOptions),
}

/// Where [`Connection::send_rows`] stopped.
pub(crate) enum Sent {
    /// All; the command tag.
    All(String),
    /// As many as were asked for; there may be more.
    Limit,
}

impl RowCursor {
    pub(crate) fn new(
        schema: RelationSchema,
        rows: RowStream,
        formats: Vec<Format>,
        tag: RowsTag,
        options: FormatOptions,
    ) -> RowCursor {
        let sending = tag == RowsTag::Subscribe;
        RowCursor { schema, rows, form: Form::DataRows { formats, tag }, options, partial: None, sending }
    }

    pub(crate) fn copy(
        schema: RelationSchema,
        rows: RowStream,
        copy_options: CopyOptions,
        options: FormatOptions,
    ) -> RowCursor {
        RowCursor { schema, rows, form: Form::Copy(copy_options), options, partial: None, sending: true }
    }

    pub(crate) fn schema(&self) -> &RelationSchema {
        &self.schema
    }

    fn drain(&self) -> Duration {
        match &self.form {
            Form::DataRows { tag: RowsTag::Subscribe, .. } | Form::Copy(_) => DRAIN_ENDLESS,
            Form::DataRows { .. } => DRAIN,
        }
    }
}

impl Connection {
    /// Writes up to `limit` rows (zero is all) behind what the output holds, without the final CommandComplete.
    pub(crate) async fn send_rows(&mut self, cursor: &mut RowCursor, limit: usize) -> Result<Sent, Stop> {
        let mut row_count = 0;
        if let Form::Copy(options) = &cursor.form {
            let format = match options.format {
                CopyFormat::Binary => Format::Binary,
                CopyFormat::Text | CopyFormat::Csv => Format::Text,
            };
            message::copy_out_response(&mut self.output.buffer, format, cursor.schema.columns.len());
            copy_start(&cursor.schema, options, &mut self.output.buffer);
        }
        let stopped = self.stopped(cursor.drain());
        tokio::pin!(stopped);
        loop {
            let (batch, first) = match cursor.partial.take() {
                Some(partial) => partial,
                None => match self.next_batch(cursor, stopped.as_mut()).await? {
                    Some(batch) => (batch, 0),
                    None => break,
                },
            };
            let end = match limit {
                0 => batch.num_rows(),
                limit => batch.num_rows().min(first + (limit - row_count)),
            };
            self.write_rows(cursor, &batch, first, end).await?;
            row_count += end - first;
            if limit > 0 && row_count == limit {
                if end < batch.num_rows() {
                    cursor.partial = Some((batch, end));
                }
                return Ok(Sent::Limit);
            }
        }
        Ok(Sent::All(match &cursor.form {
            Form::DataRows { tag, .. } => tag.complete(row_count as u64),
            Form::Copy(options) => {
                copy_end(options, &mut self.output.buffer);
                message::empty(&mut self.output.buffer, message::COPY_DONE);
                format!("COPY {row_count}")
            }
        }))
    }

    async fn write_rows(
        &mut self,
        cursor: &mut RowCursor,
        batch: &RecordBatch,
        first: usize,
        end: usize,
    ) -> Result<(), Stop> {
        let formats = match &cursor.form {
            Form::DataRows { formats, .. } => formats.as_slice(),
            Form::Copy(options) if options.format == CopyFormat::Binary => &[Format::Binary],
            Form::Copy(_) => &[],
        };
        let mut rows = Rows::new(batch, &cursor.schema, formats, &cursor.options)?;
        let mut scratch = Vec::new();
        for row in first..end {
            match &cursor.form {
                Form::DataRows { .. } => rows.data_row(row, &mut self.output.buffer)?,
                Form::Copy(options) => copy_row(&mut rows, row, options, &mut scratch, &mut self.output.buffer),
            }
            self.output.flush_if_full().await?;
        }
        Ok(())
    }

    /// The next batch, at once if it is ready; otherwise what is written leaves first.
    async fn next_batch(
        &mut self,
        cursor: &mut RowCursor,
        mut stopped: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Option<RecordBatch>, Stop> {
        if let Some(next) = cursor.rows.next().now_or_never() {
            cursor.sending = true;
            return next.transpose().map_err(|error| self.stop_of(error));
        }
        loop {
            let wait = match cursor.sending {
                true => {
                    self.output.flush().await?;
                    None
                }
                false => Some(sleep(DESCRIPTION_DELAY)),
            };
            let delay = async {
                match wait {
                    Some(wait) => wait.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                next = cursor.rows.next() => {
                    cursor.sending = true;
                    return next.transpose().map_err(|error| self.stop_of(error));
                }
                () = delay => cursor.sending = true,
                () = self.reader.gone() => return Err(Stop::End(End::Vanished)),
                () = &mut stopped => {
                    let error = PgError::new(
                        SqlState::ADMIN_SHUTDOWN,
                        "terminating connection due to administrator command",
                    );
                    return Err(Stop::End(End::Fatal(error)));
                }
            }
        }
    }
}
