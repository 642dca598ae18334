//! WINDOW CLOSE: rows wait until the watermark of their source has reached the end of their window.
//!
//! ```text
//! row       12:03 in [12:00, 12:05) --- waits ------------------------ t: +1 -- t + 1: -1
//! watermark                                       12:04    12:06 at t
//! ```
//!
//! What is above computes the window at `t` and forgets it at `t + 1`; [`emitted`] keeps what came at `t`. Each worker keeps its
//! share of the rows, as they came: no two of them have to meet here. A time is looked at once it is complete, so that a window
//! closes with all rows that came by the time of the watermark, on every worker at the same time.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Int64Type};
use repr::{Lane, PgError, SqlState, Timestamp};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::{Errors, Rows, containerwise, stateless};
use crate::errors::{ErrorRow, ErrorUpdates};
use crate::updates::Updates;
use crate::watermark::Watermarks;

/// Pieces of a window's rows are put together while they are smaller than this.
const PIECE_ROWS: usize = 4096;

/// The rows that wait on one worker.
struct Windows {
    operator: String,
    /// The column that is the end of a row's window.
    window_end: usize,
    watermark: Option<i64>,
    /// By the end of their window.
    open: BTreeMap<i64, Vec<Updates>>,
    /// Rows of times that are not complete yet.
    coming: Vec<Updates>,
}

impl Windows {
    /// Puts rows of times up to and including `time` into their windows. A row whose window was given before is an error.
    fn take_in(&mut self, time: Timestamp, errors: &mut ErrorUpdates) {
        for updates in std::mem::take(&mut self.coming) {
            let (now, later) = updates.split(|at| at <= time);
            if !now.is_empty() {
                self.put(&now, errors);
            }
            if !later.is_empty() {
                self.coming.push(later);
            }
        }
    }

    fn put(&mut self, updates: &Updates, errors: &mut ErrorUpdates) {
        let mut windows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let ends = moments(&updates.columns[self.window_end]);
        let ends = ends.as_primitive::<Int64Type>();
        for row in (0..updates.len()).filter(|row| ends.is_valid(*row)) {
            windows.entry(ends.value(row)).or_default().push(row as u32);
        }
        for (end, rows) in windows {
            if self.watermark.is_some_and(|watermark| end <= watermark) {
                errors.extend(rows.iter().map(|row| self.missed(updates, *row as usize)));
                continue;
            }
            let pieces = self.open.entry(end).or_default();
            pieces.push(match rows.len() == updates.len() {
                true => updates.clone(),
                false => updates.take(&UInt32Array::from(rows)),
            });
            join_small(pieces);
        }
    }

    fn missed(&self, updates: &Updates, row: usize) -> (ErrorRow, Timestamp, repr::Diff) {
        let message = "the row came after its window was closed";
        let error = PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message);
        let error = ErrorRow::new(&self.operator, &updates.columns, row, &error);
        (error, updates.times.get(row), updates.diffs.get(row))
    }

    /// The rows of windows that end by `watermark`, coming at `time` and going at the next.
    fn close(&mut self, watermark: i64, time: Timestamp) -> Vec<Updates> {
        self.watermark = self.watermark.max(Some(watermark));
        let mut given = Vec::new();
        while let Some(first) = self.open.first_entry().filter(|window| *window.key() <= watermark) {
            for updates in first.remove() {
                let at = |time| Lane::Constant(time, updates.len());
                let (now, next) = (at(time), at(time + 1));
                given.push(Updates { times: now, ..updates.clone() });
                given.push(Updates { times: next, ..updates }.negated());
            }
        }
        given
    }
}

/// Holds rows back; those that come too late leave as errors.
pub(crate) fn render<'scope>(
    rows: Rows<'scope>,
    operator: String,
    window_end: usize,
    watermarks: Watermarks,
) -> (Rows<'scope>, Errors<'scope>) {
    let mut builder = OperatorBuilder::new(operator.clone(), rows.scope());
    let mut input = builder.new_input(rows, Pipeline);
    let (rows_output, rows) = builder.new_output::<Updates>();
    let (errors_output, errors) = builder.new_output::<ErrorUpdates>();
    let mut rows_output = OutputBuilder::<_, NoopBuilder<Updates>>::from(rows_output);
    let mut errors_output = OutputBuilder::<_, NoopBuilder<ErrorUpdates>>::from(errors_output);
    let mut windows = Windows { operator, window_end, watermark: None, open: BTreeMap::new(), coming: Vec::new() };
    let queue = watermarks.queue();
    builder.build(move |mut capabilities| {
        let mut capabilities = Some((capabilities.remove(0), capabilities.remove(0)));
        move |frontiers| {
            input.for_each(|_, container| windows.coming.push(std::mem::take(container)));
            let Some((for_rows, for_errors)) = capabilities.as_mut() else { return };
            let frontier = frontiers[0].frontier().first().copied();
            // Times before it are complete.
            let complete = frontier.unwrap_or(Timestamp::MAX);
            if complete <= *for_rows.time() {
                return;
            }
            let (mut given, mut missed) = (Vec::new(), ErrorUpdates::new());
            let mut queue = queue.borrow_mut();
            while let Some((time, watermark)) = queue.front().copied().filter(|(time, _)| *time < complete) {
                queue.pop_front();
                windows.take_in(time, &mut missed);
                given.extend(windows.close(watermark, time));
            }
            windows.take_in(complete - 1, &mut missed);
            let mut output = rows_output.activate();
            let mut session = output.session_with_builder(&*for_rows);
            given.iter_mut().for_each(|updates| session.give_container(updates));
            if !missed.is_empty() {
                errors_output.activate().session_with_builder(&*for_errors).give_container(&mut missed);
            }
            drop(session);
            match frontier {
                Some(frontier) => {
                    for_rows.downgrade(&frontier);
                    for_errors.downgrade(&frontier);
                }
                None => capabilities = None,
            }
        }
    });
    (rows, errors)
}

/// What came, though it went again.
pub(crate) fn emitted(rows: Rows<'_>) -> Rows<'_> {
    stateless(rows, "Emitted", |updates| {
        if matches!(updates.diffs, Lane::Constant(diff, _) if diff > 0) {
            return updates;
        }
        let kept = (0..updates.len() as u32).filter(|row| updates.diffs.get(*row as usize) > 0);
        updates.take(&UInt32Array::from_iter_values(kept))
    })
}

/// The same of errors.
pub(crate) fn emitted_errors(errors: Errors<'_>) -> Errors<'_> {
    containerwise(errors, "EmittedErrors", |mut errors: ErrorUpdates| {
        errors.retain(|(_, _, diff)| *diff > 0);
        errors
    })
}

/// Puts the last pieces together while they are small and the one before is no larger than twice the last: each row is copied
/// a logarithm of times.
fn join_small(pieces: &mut Vec<Updates>) {
    while let [.., before, last] = &pieces[..]
        && last.len() < PIECE_ROWS
        && before.len() <= 2 * last.len()
    {
        let columns = before.columns.iter().zip(&last.columns);
        let columns = columns.map(|(before, last)| concat(&[before.as_ref(), last.as_ref()]));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().expect("pieces of one type");
        let lane =
            |lanes: [&Lane<i64>; 2]| Lane::Values(lanes.iter().flat_map(|lane| lane.iter()).collect()).compress();
        let diffs = lane([&before.diffs, &last.diffs]);
        // Their times have passed: all they wait for is their window.
        let times = Lane::Constant(0, diffs.len());
        pieces.truncate(pieces.len() - 2);
        pieces.push(Updates::new(columns, times, diffs));
    }
}

/// Timestamps and integers as `i64`.
fn moments(column: &ArrayRef) -> ArrayRef {
    cast(column, &DataType::Int64).expect("the planner lets windows be of timestamps and integers only")
}
