//! TEMPORAL FILTER: rows that come and go with the clock.
//!
//! For each row the moments are found at which its condition changes. What happens later than the row's own time is given
//! away at once, stamped with the time at which it happens; the arrangement behind holds it back until that time is closed,
//! and drops it if the row is retracted before. So nothing is kept here, and what is kept behind is one update a change to
//! come.
//!
//! ```text
//! condition   ts > now() - '1 h' and ts <= now()
//! row         ts = 12:00, inserted at 11:30 ------------- 12:00 +1 ---- 13:00 -1
//!             ts = 12:00, inserted at 12:20 --- 12:20 +1 -------------- 13:00 -1
//! ```
//!
//! Each comparison with the clock changes at most once as the clock goes on (the plan sees to that), so the moment is found
//! by evaluating it: at the row's time, at the end of time, where the two sides' distance says, and if that is not it, by
//! halving what is left. A view and a SELECT then agree on every unit, zone and rounding, having evaluated the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::Expr;
use plan::clock::{ClockComparison, TemporalCondition, clock_type};
use plan::dataflow_plan::{Node, column_name};
use repr::{Diff, Lane, OnError, PgError, Timestamp};

use super::{Errors, Rows, fallible};
use crate::DataflowError;
use crate::agenda::Agenda;
use crate::errors::{ErrorRow, ErrorUpdates};
use crate::expression::{Stage, definite, filter_column, filter_lane};
use crate::updates::{Updates, take_rows};

/// The end of the year 9999, in milliseconds: what has not changed by then never will.
const END: Timestamp = 253_402_300_799_999;

/// When a row's comparison never changes.
const NEVER: Timestamp = Timestamp::MAX;

/// A condition compiled for one input.
pub(crate) struct TemporalFilter {
    operator: String,
    comparisons: Vec<Comparison>,
    /// Over the input's columns and a boolean for each comparison.
    connective: Stage,
    on_error: OnError,
}

/// A comparison with the clock, over the input's columns and the clock.
struct Comparison {
    truth: Stage,
    /// Both sides, where they are instants: their distance tells when they meet.
    sides: Option<Stage>,
}

/// What a comparison says of each row, and when it changes.
struct Course {
    before: BooleanArray,
    after: BooleanArray,
    changes: Vec<Timestamp>,
}

impl TemporalFilter {
    /// Compiles `condition`, over rows of `input`; `operator` names it in errors.
    pub(crate) fn new(
        operator: String,
        input: &Node,
        condition: &Expr,
        on_error: OnError,
    ) -> Result<TemporalFilter, DataflowError> {
        let width = input.schema.fields().len();
        let condition = TemporalCondition::new(condition, width).map_err(DataflowError::Plan)?;
        let with_clock = extended(&input.schema, vec![clock_type()]);
        let with_truths = extended(&input.schema, vec![DataType::Boolean; condition.comparisons.len()]);
        let comparisons = condition.comparisons.iter();
        let comparisons = comparisons.map(|comparison| Comparison::new(&with_clock, comparison, on_error));
        let mut connective = Stage::new(&with_truths, &[condition.connective])?;
        connective.set_on_error(on_error);
        Ok(TemporalFilter { operator, comparisons: comparisons.collect::<Result<_, _>>()?, connective, on_error })
    }

    /// The rows that are there at their own time or at `as_of`, whichever is later, and what happens to each row after
    /// that. Rows that fail go to `errors`.
    pub(crate) fn apply(&self, mut updates: Updates, as_of: Timestamp, errors: &mut ErrorUpdates) -> Updates {
        let mut failures = Vec::new();
        let mut starts = starts(&updates, as_of);
        let mut courses = self.courses(&updates, &starts, &mut failures);
        if !failures.is_empty() && self.on_error != OnError::Null {
            updates = self.without(updates, failures, errors);
            starts = self::starts(&updates, as_of);
            courses = self.courses(&updates, &starts, &mut Vec::new());
        }
        let mut failures = Vec::new();
        let changes = self.changes(&updates, &courses, &mut failures);
        if failures.is_empty() || self.on_error == OnError::Null {
            return changes;
        }
        let updates = self.without(updates, failures, errors);
        if updates.is_empty() { updates } else { self.apply(updates, as_of, errors) }
    }

    fn courses(&self, updates: &Updates, starts: &[Timestamp], failures: &mut Vec<(usize, PgError)>) -> Vec<Course> {
        self.comparisons.iter().map(|comparison| comparison.course(&updates.columns, starts, failures)).collect()
    }

    /// What comes and goes: each row as it is at first, then its changes.
    fn changes(&self, updates: &Updates, courses: &[Course], failures: &mut Vec<(usize, PgError)>) -> Updates {
        let len = updates.len();
        let mut moments: Vec<Vec<Timestamp>> = courses.iter().map(|course| course.changes.clone()).collect();
        sort_columns(&mut moments, len);
        let mut is_there = self.truth_at(updates, courses, None, failures);
        let mut indices: Vec<u32> = is_there.values().set_indices().map(|row| row as u32).collect();
        if indices.len() == len && moments.iter().flatten().all(|moment| *moment == NEVER) {
            return updates.clone();
        }
        let mut times: Vec<Timestamp> = indices.iter().map(|row| updates.times.get(*row as usize)).collect();
        let mut diffs: Vec<Diff> = indices.iter().map(|row| updates.diffs.get(*row as usize)).collect();
        for moments in &moments {
            let will_be = self.truth_at(updates, courses, Some(moments), failures);
            for (row, moment) in moments.iter().enumerate() {
                if *moment != NEVER && will_be.value(row) != is_there.value(row) {
                    let diff = updates.diffs.get(row);
                    indices.push(row as u32);
                    times.push(*moment);
                    diffs.push(if will_be.value(row) { diff } else { -diff });
                }
            }
            let later =
                (0..len).map(|row| if moments[row] == NEVER { is_there.value(row) } else { will_be.value(row) });
            is_there = BooleanArray::from_iter(later.map(Some));
        }
        let indices = UInt32Array::from(indices);
        let columns = updates.columns.iter().map(|column| take_rows(column, &indices)).collect();
        Updates::new(columns, Lane::Values(times).compress(), Lane::Values(diffs).compress())
    }

    /// Whether each row is there at its moment, or before all of them. False for NULL.
    fn truth_at(
        &self,
        updates: &Updates,
        courses: &[Course],
        moments: Option<&Vec<Timestamp>>,
        failures: &mut Vec<(usize, PgError)>,
    ) -> BooleanArray {
        let mut columns = updates.columns.clone();
        for course in courses {
            columns.push(match moments {
                None => Arc::new(course.before.clone()),
                Some(moments) => Arc::new(course.at(moments)),
            });
        }
        let (truth, failed) = self.connective.evaluate(0, &columns, updates.len());
        failures.extend(failed);
        definite(truth.as_boolean())
    }

    /// The rows that have not failed; the others are reported.
    fn without(&self, updates: Updates, mut failures: Vec<(usize, PgError)>, errors: &mut ErrorUpdates) -> Updates {
        failures.sort_by_key(|failure| failure.0);
        failures.dedup_by_key(|failure| failure.0);
        let mut kept = vec![true; updates.len()];
        for (row, error) in failures {
            kept[row] = false;
            let error = ErrorRow::new(&self.operator, &updates.columns, row, &error);
            errors.push((error, updates.times.get(row), updates.diffs.get(row)));
        }
        let kept = BooleanArray::from(kept);
        let count = kept.true_count();
        let columns = updates.columns.iter().map(|column| filter_column(column, &kept)).collect();
        Updates::new(columns, filter_lane(updates.times, &kept, count), filter_lane(updates.diffs, &kept, count))
    }
}

impl Course {
    fn at(&self, moments: &[Timestamp]) -> BooleanArray {
        let values = moments.iter().zip(&self.changes).enumerate().map(|(row, (moment, change))| {
            let side = if moment >= change { &self.after } else { &self.before };
            side.is_valid(row).then(|| side.value(row))
        });
        BooleanArray::from_iter(values)
    }
}

impl Comparison {
    fn new(input: &SchemaRef, comparison: &ClockComparison, on_error: OnError) -> Result<Comparison, DataflowError> {
        let ClockComparison { left, operator, right } = comparison;
        let truth = datafusion::logical_expr::binary_expr(left.clone(), *operator, right.clone());
        let sides = Stage::new(input, &[left.clone(), right.clone()])?;
        let are_instants = (0..2).all(|side| sides.data_type(side).is_some_and(|data_type| is_instant(&data_type)));
        let mut truth = Stage::new(input, &[truth])?;
        truth.set_on_error(on_error);
        Ok(Comparison { truth, sides: are_instants.then_some(sides) })
    }

    /// Finds each row's change between its start and the end of time.
    fn course(&self, columns: &[ArrayRef], starts: &[Timestamp], failures: &mut Vec<(usize, PgError)>) -> Course {
        let before = self.truth_at(columns, starts, failures);
        let after = self.truth_at(columns, &vec![END; starts.len()], failures);
        let is_same = |row: usize| {
            before.is_null(row) == after.is_null(row) && (before.is_null(row) || before.value(row) == after.value(row))
        };
        let changing: Vec<u32> = (0..starts.len()).filter(|row| !is_same(*row)).map(|row| row as u32).collect();
        let mut changes = vec![NEVER; starts.len()];
        if !changing.is_empty() {
            let mut search = Search::new(self, columns, starts, &after, changing);
            search.run();
            for (row, change) in search.rows.iter().zip(&search.found) {
                changes[*row as usize] = *change;
            }
        }
        Course { before, after, changes }
    }

    fn truth_at(
        &self,
        columns: &[ArrayRef],
        moments: &[Timestamp],
        failures: &mut Vec<(usize, PgError)>,
    ) -> BooleanArray {
        let columns = with_clock(columns, moments);
        let (truth, failed) = self.truth.evaluate(0, &columns, moments.len());
        failures.extend(failed);
        truth.as_boolean().clone()
    }
}

/// The search for the first moment at which each of some rows has its later truth.
struct Search<'a> {
    comparison: &'a Comparison,
    columns: Vec<ArrayRef>,
    /// Their numbers in the container.
    rows: Vec<u32>,
    after: Vec<Option<bool>>,
    /// Not yet changed then ..
    low: Vec<Timestamp>,
    /// .. and changed by then. In the end, the moment.
    found: Vec<Timestamp>,
}

impl<'a> Search<'a> {
    fn new(
        comparison: &'a Comparison,
        columns: &[ArrayRef],
        starts: &[Timestamp],
        after: &BooleanArray,
        rows: Vec<u32>,
    ) -> Search<'a> {
        let indices = UInt32Array::from(rows.clone());
        let read = comparison.truth.columns();
        let columns = columns.iter().enumerate().map(|(index, column)| match read.contains(&index) {
            true => take_rows(column, &indices),
            false => Arc::clone(column),
        });
        let value = |row: &u32| after.is_valid(*row as usize).then(|| after.value(*row as usize));
        Search {
            comparison,
            columns: columns.collect(),
            after: rows.iter().map(value).collect(),
            low: rows.iter().map(|row| starts[*row as usize]).collect(),
            found: vec![END; rows.len()],
            rows,
        }
    }

    fn run(&mut self) {
        if let Some(guesses) = self.guesses() {
            // The moment itself, or one beside it where a side was rounded or the comparison is strict.
            for offset in [0, 1, 2] {
                self.probe(|search, row| (guesses[row] + offset).saturating_sub(1).max(search.low[row]));
            }
        }
        while (0..self.rows.len()).any(|row| self.found[row] - self.low[row] > 1) {
            self.probe(|search, row| search.low[row] + (search.found[row] - search.low[row]) / 2);
        }
    }

    /// When the sides meet if one stands still and the other goes with the clock.
    fn guesses(&self) -> Option<Vec<Timestamp>> {
        let sides = self.comparison.sides.as_ref()?;
        let columns = with_clock(&self.columns, &self.low);
        let micros = |side: usize| {
            let (values, _) = sides.evaluate(side, &columns, self.rows.len());
            let values = cast(&values, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
            let values = cast(&values, &DataType::Int64).ok()?;
            Some(values.as_primitive::<Int64Type>().values().to_vec())
        };
        let (left, right) = (micros(0)?, micros(1)?);
        let distance = |row: usize| left[row].abs_diff(right[row]) / 1000;
        Some((0..self.rows.len()).map(|row| self.low[row].saturating_add(distance(row)).min(END)).collect())
    }

    /// Asks whether each row has changed at a moment, and narrows down when it does. One that fails there counts as changed:
    /// it does not fail at the start, nor at the end.
    fn probe(&mut self, moment: impl Fn(&Search<'a>, usize) -> Timestamp) {
        let moments: Vec<Timestamp> = (0..self.rows.len()).map(|row| moment(self, row)).collect();
        let mut failures = Vec::new();
        let truth = self.comparison.truth_at(&self.columns, &moments, &mut failures);
        let mut has_changed: Vec<bool> =
            (0..self.rows.len()).map(|row| truth.is_valid(row).then(|| truth.value(row)) == self.after[row]).collect();
        failures.iter().for_each(|(row, _)| has_changed[*row] = true);
        for (row, moment) in moments.into_iter().enumerate() {
            if has_changed[row] {
                self.found[row] = self.found[row].min(moment);
            } else {
                self.low[row] = self.low[row].max(moment);
            }
        }
    }
}

/// When each row begins to be looked at.
fn starts(updates: &Updates, as_of: Timestamp) -> Vec<Timestamp> {
    updates.times.iter().map(|time| time.max(as_of)).collect()
}

fn with_clock(columns: &[ArrayRef], moments: &[Timestamp]) -> Vec<ArrayRef> {
    let micros = TimestampMicrosecondArray::from_iter_values(moments.iter().map(|moment| *moment as i64 * 1000));
    let clock: ArrayRef = Arc::new(micros.with_data_type(clock_type()));
    columns.iter().cloned().chain([clock]).collect()
}

/// `schema` with further columns.
fn extended(schema: &SchemaRef, types: Vec<DataType>) -> SchemaRef {
    let width = schema.fields().len();
    let further = types.into_iter().enumerate();
    let further = further.map(|(index, data_type)| Arc::new(Field::new(column_name(width + index), data_type, true)));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(further).collect::<Vec<_>>()))
}

fn is_instant(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32)
}

/// Sorts the values of each row over the columns: the first column gets the earliest ones.
fn sort_columns(columns: &mut [Vec<Timestamp>], len: usize) {
    if columns.len() < 2 {
        return;
    }
    let mut row_values = Vec::with_capacity(columns.len());
    for row in 0..len {
        row_values.clear();
        row_values.extend(columns.iter().map(|column| column[row]));
        row_values.sort_unstable();
        columns.iter_mut().zip(&row_values).for_each(|(column, value)| column[row] = *value);
    }
}

/// Runs the filter over a stream; what happens later than a row's own time is noted in the agenda.
pub(crate) fn render<'scope>(
    rows: Rows<'scope>,
    function: TemporalFilter,
    as_of: Timestamp,
    agenda: Arc<Agenda>,
) -> (Rows<'scope>, Errors<'scope>) {
    let name = function.operator.clone();
    fallible(rows, &name, move |updates, errors| {
        let latest = updates.times.iter().max().unwrap_or(0);
        let changes = function.apply(updates, as_of, errors);
        match &changes.times {
            Lane::Constant(time, _) => agenda.add([*time].into_iter().filter(|time| *time > latest)),
            Lane::Values(times) => agenda.add(times.iter().copied().filter(|time| *time > latest)),
        }
        changes
    })
}
