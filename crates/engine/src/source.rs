//! Reading sources: one thread a source that some dataflow reads, one more a history that a later dataflow catches up with.
//!
//! ```text
//! connectors::open -> next -> runtime.append(rows, positions)      reader: goes on until nobody reads the source
//!                          -> backfill.append(rows)                backfill: from the start up to the reader's positions
//!                          -> decode errors                        both; the place of an error is its identity
//! ```
//!
//! Threads, not tasks: connectors block, and a blocked read holds up nobody but its source. What cannot be opened or read is
//! tried again, slower each time, from the position it had reached; meanwhile the reason is a row of `tw_errors`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use catalog::system::ErrorRow;
use connectors::{Next, SourceBatch};
use dataflow::{Backfill, Runtime};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use parking_lot::Mutex;
use repr::source::{Positions, SourceDescription};
use repr::{Lane, ObjectId, PgError};
use tokio::sync::watch;

use crate::errors::DecodeErrors;
use crate::event_time::EventTime;
use crate::read::batch;

/// How long a read waits for data before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(50);
/// The first wait after a failure; each further one is twice as long up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// Every reading thread.
pub(crate) struct Readers {
    runtime: Runtime,
    decode_errors: Arc<DecodeErrors>,
    readers: Mutex<HashMap<ObjectId, Reader>>,
    backfills: Mutex<Vec<Reader>>,
    /// While the engine starts: sources to be read once all their dataflows are there, so that none needs a backfill.
    waiting: Mutex<Option<BTreeMap<ObjectId, SourceDescription>>>,
    counts: Mutex<BTreeMap<ObjectId, Arc<Counts>>>,
}

struct Reader {
    source: ObjectId,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    failure: Arc<Mutex<Option<PgError>>>,
    /// Whether all that the source held when reading began has been read. A backfill's dataflow knows it by itself.
    loaded: watch::Receiver<bool>,
}

/// What a source has given since the start.
#[derive(Default)]
pub(crate) struct Counts {
    rows: AtomicU64,
    bytes: AtomicU64,
    late_rows: AtomicU64,
}

/// [`Counts`] as they are now.
pub(crate) struct SourceCounts {
    pub(crate) source: ObjectId,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Rows left out because they were late.
    pub(crate) late_rows: u64,
}

impl Readers {
    pub(crate) fn new(runtime: Runtime, decode_errors: Arc<DecodeErrors>) -> Readers {
        Readers {
            runtime,
            decode_errors,
            readers: Mutex::default(),
            backfills: Mutex::default(),
            waiting: Mutex::new(Some(BTreeMap::new())),
            counts: Mutex::default(),
        }
    }

    /// Lets readers start that have been wanted since the engine started, and every later one at once.
    pub(crate) fn release(&self) {
        // Taken before the loop: a lock in its head would be held while `start` asks for it again.
        let waiting = self.waiting.lock().take();
        for (source, description) in waiting.unwrap_or_default() {
            self.start(source, description);
        }
    }

    /// Starts reading a source from where it was left, unless it is being read.
    pub(crate) fn start(&self, source: ObjectId, description: SourceDescription) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.insert(source, description);
            return;
        }
        let mut readers = self.readers.lock();
        if readers.contains_key(&source) {
            return;
        }
        let runtime = self.runtime.clone();
        let counts = Arc::clone(self.counts.lock().entry(source).or_default());
        let wanted = self.runtime.clone();
        let watermark = description.watermark;
        let mut work = Work {
            source,
            columns: Box::new(move || wanted.wanted_columns(source)),
            description,
            to: None,
            decode_errors: Arc::clone(&self.decode_errors),
        };
        let started = spawn(format!("source {source}"), source, move |stop, failure, loaded| {
            // What closes windows. Until all partitions have been read up to what was there, none of them says how far the others are.
            let event_time = watermark.map(|watermark| RefCell::new(EventTime::new(watermark)));
            let advance = |positions: &Positions| {
                let least = event_time.as_ref().and_then(|times| times.borrow_mut().at(positions, Instant::now()));
                if let Some(watermark) = least {
                    runtime.advance_watermark(source, watermark);
                }
            };
            let mut take = |batch: SourceBatch| {
                runtime.wait_capacity(source);
                if stop.load(Ordering::Acquire) {
                    return Taken::Refused;
                }
                let (row_count, byte_count) = (batch.row_count as u64, batch.byte_count as u64);
                let late_rows = batch.late_rows as u64;
                let diffs = Lane::Constant(1, batch.row_count);
                let positions = (event_time.is_some() && *loaded.borrow()).then(|| batch.positions.clone());
                if runtime.append(source, batch.columns, batch.row_count, diffs, Some(batch.positions)).is_none() {
                    return Taken::TooNarrow;
                }
                if let Some(positions) = &positions {
                    advance(positions);
                }
                counts.rows.fetch_add(row_count, Ordering::Relaxed);
                counts.bytes.fetch_add(byte_count, Ordering::Relaxed);
                counts.late_rows.fetch_add(late_rows, Ordering::Relaxed);
                Taken::Whole
            };
            // First what is there now: until that is read, the source's views have no answer.
            work.to = work.latest(stop, failure);
            if work.to.is_none() || !work.run(stop, failure, runtime.source_positions(source), &mut take) {
                return;
            }
            advance(&runtime.source_positions(source));
            runtime.tick();
            loaded.send_replace(true);
            work.to = None;
            work.run(stop, failure, runtime.source_positions(source), &mut take);
            runtime.caught_up();
        });
        if let Some(reader) = started {
            readers.insert(source, reader);
        }
    }

    /// Reads a source again for a dataflow that came later.
    pub(crate) fn backfill(&self, description: SourceDescription, mut backfill: Backfill) {
        let source = backfill.relation;
        let columns = backfill.columns.clone();
        let work = Work {
            source,
            columns: Box::new(move || columns.clone()),
            description,
            to: Some(backfill.positions.clone()),
            decode_errors: Arc::clone(&self.decode_errors),
        };
        let started = spawn(format!("backfill {source}"), source, move |stop, failure, _| {
            let complete = work.run(stop, failure, Positions::new(), |batch| {
                match backfill.append(batch.columns, batch.row_count) {
                    Ok(()) => Taken::Whole,
                    Err(_) => Taken::Refused,
                }
            });
            if complete {
                backfill.finish();
            }
        });
        let mut backfills = self.backfills.lock();
        backfills.retain(|reader| !reader.thread.is_finished());
        backfills.extend(started);
    }

    /// Whether some source is still to be read up to where it ended when its reading began.
    pub(crate) fn is_loading(&self) -> bool {
        self.readers.lock().values().any(|reader| !*reader.loaded.borrow())
    }

    /// Waits until all of `sources` that are being read have been read up to where they ended when that began: at the first
    /// view over them, and again after a restart.
    ///
    /// Errors: why a source cannot be read, if it cannot.
    pub(crate) async fn loaded(&self, sources: &BTreeSet<ObjectId>) -> Result<(), PgError> {
        for source in sources {
            let reader =
                self.readers.lock().get(source).map(|reader| (reader.loaded.clone(), Arc::clone(&reader.failure)));
            let Some((mut loaded, failure)) = reader else { continue };
            while !*loaded.borrow_and_update() {
                if let Some(error) = failure.lock().clone() {
                    return Err(
                        error.with_detail("What the source held when the server began to read it is not read yet.")
                    );
                }
                // A reader that was stopped says nothing more, and one that fails says it in `failure`.
                if let Ok(Err(_)) = tokio::time::timeout(PATIENCE, loaded.changed()).await {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a source is being read, or has been read to its end.
    pub(crate) fn is_reading(&self, source: ObjectId) -> bool {
        self.readers.lock().contains_key(&source)
    }

    /// Stops reading sources that are not in `wanted`. They go on from their positions when they are wanted again.
    pub(crate) fn keep_only(&self, wanted: &BTreeSet<ObjectId>) {
        let stopped: Vec<Reader> = {
            let mut readers = self.readers.lock();
            let unwanted: Vec<ObjectId> = readers.keys().filter(|id| !wanted.contains(id)).copied().collect();
            unwanted.iter().filter_map(|id| readers.remove(id)).collect()
        };
        stop(stopped);
    }

    /// Forgets a source that was dropped.
    pub(crate) fn forget(&self, source: ObjectId) {
        let reader = self.readers.lock().remove(&source);
        stop(reader.into_iter().collect());
        self.counts.lock().remove(&source);
        self.decode_errors.forget(source);
        self.runtime.forget_relation(source);
    }

    pub(crate) fn stop_all(&self) {
        let mut all: Vec<Reader> = self.readers.lock().drain().map(|(_, reader)| reader).collect();
        all.append(&mut self.backfills.lock());
        stop(all);
    }

    /// Why sources that should be read are not.
    pub(crate) fn failures(&self) -> Vec<ErrorRow> {
        let readers = self.readers.lock();
        let backfills = self.backfills.lock();
        let row = |reader: &Reader| {
            let failure = reader.failure.lock().clone()?;
            Some(ErrorRow {
                object: reader.source,
                location: "source".to_string(),
                input: String::new(),
                state: failure.state.0.to_string(),
                message: failure.message,
                since: None,
                count: 1,
            })
        };
        readers.values().chain(backfills.iter()).filter_map(row).collect()
    }

    pub(crate) fn counts(&self) -> Vec<SourceCounts> {
        let count = |(id, counts): (&ObjectId, &Arc<Counts>)| SourceCounts {
            source: *id,
            rows: counts.rows.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            late_rows: counts.late_rows.load(Ordering::Relaxed),
        };
        self.counts.lock().iter().map(count).collect()
    }
}

fn stop(readers: Vec<Reader>) {
    for reader in &readers {
        reader.stop.store(true, Ordering::Release);
    }
    for reader in readers {
        if reader.thread.join().is_err() {
            tracing::error!("the thread that read source {} panicked", reader.source);
        }
    }
}

fn spawn(
    name: String,
    source: ObjectId,
    body: impl FnOnce(&AtomicBool, &Mutex<Option<PgError>>, &watch::Sender<bool>) + Send + 'static,
) -> Option<Reader> {
    let stop = Arc::new(AtomicBool::new(false));
    let failure = Arc::new(Mutex::new(None));
    let (stopped, failed) = (Arc::clone(&stop), Arc::clone(&failure));
    let (is_loaded, loaded) = watch::channel(false);
    match std::thread::Builder::new().name(name).spawn(move || body(&stopped, &failed, &is_loaded)) {
        Ok(thread) => Some(Reader { source, stop, thread, failure, loaded }),
        Err(error) => {
            tracing::error!("no thread to read source {source}: {error}");
            None
        }
    }
}

/// What became of a batch.
enum Taken {
    Whole,
    /// Nobody wants it any more.
    Refused,
    /// Meanwhile someone reads a column that it lacks: it has to be decoded again.
    TooNarrow,
}

/// One reading of a source.
struct Work {
    source: ObjectId,
    /// The columns that are read now.
    columns: Box<dyn Fn() -> BTreeSet<usize> + Send>,
    description: SourceDescription,
    to: Option<Positions>,
    decode_errors: Arc<DecodeErrors>,
}

impl Work {
    /// Reads until the end, until told to stop, or until `take` refuses. True if the end was reached.
    fn run(
        &self,
        stop: &AtomicBool,
        failure: &Mutex<Option<PgError>>,
        mut from: Positions,
        mut take: impl FnMut(SourceBatch) -> Taken,
    ) -> bool {
        let complete =
            self.until_it_works(stop, failure, |retry| self.read(stop, failure, &mut from, retry, &mut take));
        complete.unwrap_or(false)
    }

    /// Where the source ends now; None if told to stop before it says so.
    fn latest(&self, stop: &AtomicBool, failure: &Mutex<Option<PgError>>) -> Option<Positions> {
        self.until_it_works(stop, failure, |_| connectors::latest(&self.description))
    }

    /// Tries again and again, slower each time, until told to stop. `step` may start the waits anew.
    fn until_it_works<T>(
        &self,
        stop: &AtomicBool,
        failure: &Mutex<Option<PgError>>,
        mut step: impl FnMut(&mut Duration) -> Result<T, PgError>,
    ) -> Option<T> {
        let mut retry = RETRY_FIRST;
        while !stop.load(Ordering::Acquire) {
            match step(&mut retry) {
                Ok(done) => return Some(done),
                Err(error) => {
                    tracing::warn!("source {}: {error}; trying again in {retry:?}", self.source);
                    *failure.lock() = Some(error);
                    wait(stop, retry);
                    retry = (retry * 2).min(RETRY_LAST);
                }
            }
        }
        None
    }

    fn read(
        &self,
        stop: &AtomicBool,
        failure: &Mutex<Option<PgError>>,
        from: &mut Positions,
        retry: &mut Duration,
        take: &mut impl FnMut(SourceBatch) -> Taken,
    ) -> Result<bool, PgError> {
        let open = |from: &Positions| {
            let mut source = connectors::open(&self.description, from, self.to.as_ref())?;
            source.read_only(&(self.columns)());
            Ok::<_, PgError>(source)
        };
        let mut source = open(from)?;
        while !stop.load(Ordering::Acquire) {
            match source.next(PATIENCE)? {
                Next::Batch(batch) => {
                    for error in &batch.errors {
                        self.decode_errors.add(self.source, error.location.clone(), &error.input, &error.error);
                    }
                    let positions = batch.positions.clone();
                    match take(batch) {
                        Taken::Whole => *from = positions,
                        Taken::Refused => return Ok(false),
                        Taken::TooNarrow => source = open(from)?,
                    }
                }
                Next::Idle => {}
                Next::End => {
                    *failure.lock() = None;
                    return Ok(true);
                }
            }
            *failure.lock() = None;
            *retry = RETRY_FIRST;
        }
        Ok(false)
    }
}

fn wait(stop: &AtomicBool, duration: Duration) {
    let until = Instant::now() + duration;
    while Instant::now() < until && !stop.load(Ordering::Acquire) {
        std::thread::sleep(PATIENCE.min(duration));
    }
}

/// A source's rows for one SELECT: from the start up to `to`, read while they are asked for.
pub(crate) struct SourceScan {
    pub(crate) description: SourceDescription,
    pub(crate) schema: SchemaRef,
    pub(crate) to: Positions,
}

impl fmt::Debug for SourceScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceScan({})", self.description.connector)
    }
}

impl PartitionStream for SourceScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let (description, schema, to) = (self.description.clone(), Arc::clone(&self.schema), self.to.clone());
        // Ends with the receiver: sending fails once the query is dropped.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = scan(&description, &schema, &to, &sender) {
                let _ = sender.blocking_send(Err(DataFusionError::External(Box::new(error))));
            }
        });
        let rows = futures::stream::unfold(receiver, |mut receiver: tokio::sync::mpsc::Receiver<_>| async move {
            let next = receiver.recv().await?;
            Some((next, receiver))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

fn scan(
    description: &SourceDescription,
    schema: &SchemaRef,
    to: &Positions,
    sender: &tokio::sync::mpsc::Sender<Result<RecordBatch, DataFusionError>>,
) -> Result<(), PgError> {
    let mut source = connectors::open(description, &Positions::new(), Some(to))?;
    loop {
        match source.next(PATIENCE)? {
            Next::Batch(SourceBatch { columns, row_count, .. }) => {
                for piece in pieces(columns, row_count) {
                    let (columns, row_count) = piece;
                    if sender.blocking_send(Ok(batch(schema, columns, row_count)?)).is_err() {
                        return Ok(());
                    }
                }
            }
            Next::Idle if sender.is_closed() => return Ok(()),
            Next::Idle => {}
            Next::End => return Ok(()),
        }
    }
}

/// Slices that an evaluation's operators like.
fn pieces(columns: Vec<ArrayRef>, row_count: usize) -> impl Iterator<Item = (Vec<ArrayRef>, usize)> {
    let step = crate::read::BATCH_ROWS;
    (0..row_count).step_by(step).map(move |start| {
        let length = step.min(row_count - start);
        (columns.iter().map(|column| column.slice(start, length)).collect(), length)
    })
}
