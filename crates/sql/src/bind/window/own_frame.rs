//! Frames that DataFusion does not have: RANGE with an offset, EXCLUDE, and lists over a frame of peers.
//!
//! The function finds the frames itself. It takes everything as arguments, so that it is the same in a query and in a view:
//!
//! ```text
//! [values of the call ..] [filter] [the column that RANGE measures] [keys of the window's ORDER BY ..]
//! ```
//!
//! The window around it sorts by a longer order that tells all rows apart, so that every frame has its rows in one order.
//! A frame is up to three stretches of the partition: what EXCLUDE takes out lies between them. Where nothing is excluded
//! frames only move forward, and an aggregate follows them row by row.

use std::ops::Range;

use arrow::array::*;
use arrow::compute::{concat, filter as kept, partition, prep_null_mask_filter, take};
use arrow::datatypes::*;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    Accumulator, PartitionEvaluator, Signature, Volatility, WindowFrameUnits, WindowUDFImpl,
};
use repr::PgError;
use repr::numeric::Numeric;
use repr::text::interval::Interval;

use crate::functions::datetime::add_interval;
use crate::functions::kernel::external;
use crate::functions::{MovingAggregate, conversion::date_as_timestamp};

/// Where a frame ends on one side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bound {
    /// The partition's end on that side.
    Unbounded,
    /// The current row, or its peers.
    Current,
    /// So many rows, groups, or such a distance.
    Preceding(Offset),
    /// The same on the other side.
    Following(Offset),
}

/// How far away.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Offset {
    /// Rows, groups of peers, or an integer's distance.
    Count(i64),
    /// A double's bits.
    Double(u64),
    /// An encoded numeric.
    Numeric(Vec<u8>),
    /// Months, days, microseconds.
    Interval(i32, i32, i64),
}

/// What EXCLUDE takes out of each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Excluded {
    Nothing,
    CurrentRow,
    Group,
    Ties,
}

/// What is computed over the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Computed {
    /// The aggregate of that name.
    Aggregate(&'static str),
    FirstValue,
    LastValue,
    /// From 1; the position is the second argument.
    NthValue,
}

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnFrame {
    pub(super) computed: Computed,
    pub(super) units: WindowFrameUnits,
    pub(super) start: Bound,
    pub(super) end: Bound,
    pub(super) excluded: Excluded,
    /// How many arguments the call has.
    pub(super) value_count: usize,
    pub(super) is_filtered: bool,
    /// Whether the column that RANGE measures falls.
    pub(super) descending: bool,
    /// Whether there is one.
    pub(super) is_measured: bool,
    pub(super) result: DataType,
    pub(super) signature: Signature,
}

impl OwnFrame {
    pub(super) fn new(computed: Computed, units: WindowFrameUnits, result: DataType) -> OwnFrame {
        OwnFrame {
            computed,
            units,
            start: Bound::Unbounded,
            end: Bound::Current,
            excluded: Excluded::Nothing,
            value_count: 0,
            is_filtered: false,
            descending: false,
            is_measured: false,
            result,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

/// What the function is called in plans.
pub(super) const NAME: &str = "over_own_frame";

impl WindowUDFImpl for OwnFrame {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> DataFusionResult<Box<dyn PartitionEvaluator>> {
        let function = OwnFrame {
            start: self.start.clone(),
            end: self.end.clone(),
            result: self.result.clone(),
            signature: self.signature.clone(),
            ..*self
        };
        Ok(Box::new(Evaluator(function)))
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> DataFusionResult<FieldRef> {
        Ok(Field::new(arguments.name(), self.result.clone(), true).into())
    }
}

#[derive(Debug)]
struct Evaluator(OwnFrame);

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> DataFusionResult<ArrayRef> {
        let function = &self.0;
        let (arguments, rest) = values.split_at(function.value_count);
        let (filter, rest) = rest.split_at(usize::from(function.is_filtered));
        let (measured, keys) = rest.split_at(usize::from(function.is_measured));
        let peers = Peers::new(keys, num_rows)?;
        let frames = frames(function, &peers, measured.first(), num_rows).map_err(external)?;
        let stretches = frames.iter().enumerate().map(|(row, frame)| match function.excluded {
            Excluded::Nothing => [frame.clone(), 0..0, 0..0],
            Excluded::CurrentRow => without(frame, row..row + 1, None),
            Excluded::Group => without(frame, peers.of(row), None),
            Excluded::Ties => without(frame, peers.of(row), Some(row)),
        });
        match function.computed {
            Computed::Aggregate(name) => {
                let filter = filter.first().map(|filter| filter.as_boolean());
                // NULL is not true.
                let filter = filter.map(|filter| match filter.null_count() {
                    0 => filter.clone(),
                    _ => prep_null_mask_filter(filter),
                });
                aggregate(name, arguments, filter.as_ref(), stretches, &function.result)
            }
            _ => picked(function.computed, arguments, stretches),
        }
    }
}

/// The groups of rows that are equal in order.
struct Peers {
    groups: Vec<Range<usize>>,
    group_of: Vec<usize>,
}

impl Peers {
    /// Without keys all rows are peers.
    fn new(keys: &[ArrayRef], row_count: usize) -> DataFusionResult<Peers> {
        let groups = match keys {
            [] if row_count == 0 => Vec::new(),
            [] => std::iter::once(0..row_count).collect(),
            _ => partition(keys)?.ranges(),
        };
        let numbered = groups.iter().enumerate();
        let group_of = numbered.flat_map(|(number, rows)| std::iter::repeat_n(number, rows.len())).collect();
        Ok(Peers { groups, group_of })
    }

    fn of(&self, row: usize) -> Range<usize> {
        self.groups[self.group_of[row]].clone()
    }
}

/// `frame` without `hole`, but with the row `back` if it was in it.
fn without(frame: &Range<usize>, hole: Range<usize>, back: Option<usize>) -> [Range<usize>; 3] {
    let before = frame.start..frame.end.min(hole.start).max(frame.start);
    let after = frame.start.max(hole.end).min(frame.end)..frame.end;
    let back = back.filter(|row| frame.contains(row)).map_or(0..0, |row| row..row + 1);
    [before, back, after]
}

/// Each row's frame. Errors: `22008` where a date is moved out of range.
fn frames(
    function: &OwnFrame,
    peers: &Peers,
    measured: Option<&ArrayRef>,
    row_count: usize,
) -> Result<Vec<Range<usize>>, PgError> {
    let distances = measured.map(|column| Measured::new(column, function.descending)).transpose()?;
    let mut frames = Vec::with_capacity(row_count);
    for row in 0..row_count {
        let side = |bound: &Bound, is_start: bool| -> Result<usize, PgError> {
            let (offset, back) = match bound {
                Bound::Unbounded => return Ok(if is_start { 0 } else { row_count }),
                Bound::Current if function.units == WindowFrameUnits::Rows => {
                    return Ok(if is_start { row } else { row + 1 });
                }
                Bound::Current => {
                    let group = peers.of(row);
                    return Ok(if is_start { group.start } else { group.end });
                }
                Bound::Preceding(offset) => (offset, true),
                Bound::Following(offset) => (offset, false),
            };
            match (function.units, offset, &distances) {
                (WindowFrameUnits::Range, offset, Some(distances)) => {
                    distances.place(row, peers, offset, back, is_start)
                }
                (WindowFrameUnits::Rows, Offset::Count(count), _) => {
                    let at = moved(row, *count, back);
                    let edge = if is_start { at } else { at + 1 };
                    Ok(edge.clamp(0, row_count as i128) as usize)
                }
                (WindowFrameUnits::Groups, Offset::Count(count), _) => {
                    let group = moved(peers.group_of[row], *count, back);
                    match usize::try_from(group) {
                        Err(_) => Ok(0),
                        Ok(group) => Ok(match peers.groups.get(group) {
                            None => row_count,
                            Some(rows) if is_start => rows.start,
                            Some(rows) => rows.end,
                        }),
                    }
                }
                _ => Err(PgError::internal("a frame's offset that does not measure its rows")),
            }
        };
        let start = side(&function.start, true)?;
        frames.push(start..side(&function.end, false)?.max(start));
    }
    Ok(frames)
}

fn moved(from: usize, count: i64, back: bool) -> i128 {
    from as i128 + if back { -i128::from(count) } else { i128::from(count) }
}

/// A sorted column on which distances are measured.
struct Measured {
    values: Values,
    /// The rows that are not NULL, which are together.
    present: Range<usize>,
    descending: bool,
}

enum Values {
    Integers(Vec<i128>),
    Doubles(Vec<f64>),
    Numerics(Vec<Numeric>),
    Timestamps(Vec<i64>),
    Intervals(Vec<Interval>),
}

impl Measured {
    fn new(column: &ArrayRef, descending: bool) -> Result<Measured, PgError> {
        let nulls = column.logical_nulls();
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let start = (0..column.len()).find(|row| !is_null(*row)).unwrap_or(column.len());
        let end = (start..column.len()).find(|row| is_null(*row)).unwrap_or(column.len());
        macro_rules! integers {
            ($type:ty) => {
                Values::Integers(
                    column.as_primitive::<$type>().values().iter().map(|value| i128::from(*value)).collect(),
                )
            };
        }
        let values = match column.data_type() {
            DataType::Int16 => integers!(Int16Type),
            DataType::Int32 => integers!(Int32Type),
            DataType::Int64 => integers!(Int64Type),
            DataType::Time64(_) => integers!(Time64MicrosecondType),
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                Values::Doubles(values.iter().map(|value| f64::from(*value)).collect())
            }
            DataType::Float64 => Values::Doubles(column.as_primitive::<Float64Type>().values().to_vec()),
            DataType::LargeBinary => {
                let values = column.as_binary::<i64>();
                let decoded =
                    |row: usize| if is_null(row) { Numeric::ZERO } else { Numeric::decode(values.value(row)) };
                Values::Numerics((0..values.len()).map(decoded).collect())
            }
            DataType::Date32 => {
                let dates = column.as_primitive::<Date32Type>().values().iter();
                Values::Timestamps(dates.map(|date| date_as_timestamp(*date)).collect::<Result<_, _>>()?)
            }
            DataType::Timestamp(..) => {
                Values::Timestamps(column.as_primitive::<TimestampMicrosecondType>().values().to_vec())
            }
            DataType::Interval(_) => {
                let values = column.as_primitive::<IntervalMonthDayNanoType>().values().iter();
                Values::Intervals(values.map(|value| Interval::from_arrow(*value)).collect())
            }
            other => return Err(PgError::internal(format!("a distance of {other}"))),
        };
        Ok(Measured { values, present: start..end, descending })
    }

    /// Where the frame of `row` starts or ends that reaches `offset` back or ahead in order. Beside a NULL are its peers.
    fn place(&self, row: usize, peers: &Peers, offset: &Offset, back: bool, is_start: bool) -> Result<usize, PgError> {
        if !self.present.contains(&row) {
            let group = peers.of(row);
            return Ok(if is_start { group.start } else { group.end });
        }
        // Back in a falling order is up.
        let down = back != self.descending;
        // From one infinity all the way to the other all is in range, but for NaN where it lies beyond.
        let lowest = is_start != self.descending;
        Ok(match (&self.values, offset) {
            (Values::Integers(values), Offset::Count(count)) => {
                let bound = values[row] + if down { -i128::from(*count) } else { i128::from(*count) };
                self.search(|at| values[at].cmp(&bound), is_start)
            }
            (Values::Integers(values), Offset::Interval(_, _, micros)) => {
                let bound = values[row] + if down { -i128::from(*micros) } else { i128::from(*micros) };
                self.search(|at| values[at].cmp(&bound), is_start)
            }
            (Values::Doubles(values), Offset::Double(bits)) => {
                let distance = f64::from_bits(*bits);
                let mut bound = if down { values[row] - distance } else { values[row] + distance };
                if bound.is_nan() && !values[row].is_nan() {
                    bound = if lowest { f64::NEG_INFINITY } else { f64::INFINITY };
                }
                // NaN is greater than all else, and the zeros are equal.
                let compare = |left: f64, right: f64| match (left.is_nan(), right.is_nan()) {
                    (false, false) => left.partial_cmp(&right).unwrap_or(std::cmp::Ordering::Equal),
                    (left, right) => left.cmp(&right),
                };
                self.search(|at| compare(values[at], bound), is_start)
            }
            (Values::Numerics(values), Offset::Numeric(distance)) => {
                let distance = Numeric::decode(distance);
                let mut bound = if down { values[row].sub(&distance)? } else { values[row].add(&distance)? };
                if bound.is_nan() && !values[row].is_nan() {
                    bound = if lowest { Numeric::NegativeInfinity } else { Numeric::Infinity };
                }
                self.search(|at| values[at].cmp(&bound), is_start)
            }
            (Values::Timestamps(values), Offset::Interval(months, days, micros)) => {
                let interval = Interval { months: *months, days: *days, micros: *micros };
                let bound = add_interval(values[row], &if down { interval.neg()? } else { interval })?;
                self.search(|at| values[at].cmp(&bound), is_start)
            }
            (Values::Intervals(values), Offset::Interval(months, days, micros)) => {
                let interval = Interval { months: *months, days: *days, micros: *micros };
                let bound = values[row].add(&if down { interval.neg()? } else { interval })?.span();
                self.search(|at| values[at].span().cmp(&bound), is_start)
            }
            _ => return Err(PgError::internal("a frame's offset of another type than its order")),
        })
    }

    /// The first present row that is not before the bound, or the one behind the last that is not after it.
    fn search(&self, compare: impl Fn(usize) -> std::cmp::Ordering, is_start: bool) -> usize {
        let (mut low, mut high) = (self.present.start, self.present.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let order = if self.descending { compare(middle).reverse() } else { compare(middle) };
            if order.is_lt() || (!is_start && order.is_eq()) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

type Stretches = [Range<usize>; 3];

/// The first, last or nth row's value of each frame.
fn picked(
    computed: Computed,
    arguments: &[ArrayRef],
    stretches: impl Iterator<Item = Stretches>,
) -> DataFusionResult<ArrayRef> {
    let mut places: Vec<Option<u64>> = Vec::new();
    for (row, stretches) in stretches.enumerate() {
        let len: usize = stretches.iter().map(Range::len).sum();
        let wanted = match computed {
            Computed::FirstValue => Some(0),
            Computed::LastValue => len.checked_sub(1),
            _ => {
                let positions = arguments[1].as_primitive::<Int64Type>();
                match positions.is_valid(row).then(|| positions.value(row)) {
                    None => None,
                    Some(position) if position <= 0 => {
                        let message = "argument of nth_value must be greater than zero";
                        return Err(external(PgError::new(repr::SqlState("22016"), message)));
                    }
                    Some(position) => usize::try_from(position - 1).ok(),
                }
            }
        };
        places.push(wanted.and_then(|nth| stretches.into_iter().flatten().nth(nth)).map(|row| row as u64));
    }
    Ok(take(&arguments[0], &UInt64Array::from(places), None)?)
}

/// The aggregate of each frame.
fn aggregate(
    name: &'static str,
    arguments: &[ArrayRef],
    filter: Option<&BooleanArray>,
    stretches: impl Iterator<Item = Stretches>,
    result: &DataType,
) -> DataFusionResult<ArrayRef> {
    let types: Vec<DataType> = arguments.iter().map(|argument| argument.data_type().clone()).collect();
    let moving = MovingAggregate::new(name, types).map_err(external)?;
    let rows = |range: &Range<usize>| -> DataFusionResult<Vec<ArrayRef>> {
        let slice = |column: &ArrayRef| match filter {
            None => Ok(column.slice(range.start, range.len())),
            Some(filter) => {
                let filter = filter.slice(range.start, range.len());
                Ok(kept(&column.slice(range.start, range.len()), &filter)?)
            }
        };
        arguments.iter().map(slice).collect()
    };
    let mut accumulator = moving.accumulator().map_err(external)?;
    let mut held: Range<usize> = 0..0;
    let mut last: Option<(Stretches, ScalarValue)> = None;
    let mut values: Vec<ScalarValue> = Vec::new();
    for stretches in stretches {
        if let Some((_, value)) = last.as_ref().filter(|(known, _)| *known == stretches) {
            values.push(value.clone());
            continue;
        }
        let whole = stretches[1..].iter().all(Range::is_empty);
        let value = match whole {
            true => {
                let frame = &stretches[0];
                if frame.start < held.start || frame.end < held.end {
                    accumulator = moving.accumulator().map_err(external)?;
                    held = frame.start..frame.start;
                }
                let gone = held.start..held.end.min(frame.start);
                if !gone.is_empty() {
                    accumulator.retract_batch(&rows(&gone)?)?;
                }
                let new = held.end.max(frame.start)..frame.end;
                if !new.is_empty() {
                    accumulator.update_batch(&rows(&new)?)?;
                }
                held = frame.clone();
                accumulator.evaluate()?
            }
            false => {
                let mut fresh = moving.accumulator().map_err(external)?;
                let parts = stretches.iter().filter(|range| !range.is_empty()).map(&rows);
                add_all(fresh.as_mut(), parts.collect::<DataFusionResult<Vec<_>>>()?)?;
                fresh.evaluate()?
            }
        };
        last = Some((stretches, value.clone()));
        values.push(value);
    }
    match values.is_empty() {
        true => Ok(new_empty_array(result)),
        false => ScalarValue::iter_to_array(values),
    }
}

fn add_all(accumulator: &mut dyn Accumulator, parts: Vec<Vec<ArrayRef>>) -> DataFusionResult<()> {
    let Some(first) = parts.first() else { return Ok(()) };
    let column = |index: usize| {
        let arrays: Vec<&dyn Array> = parts.iter().map(|part| part[index].as_ref()).collect();
        concat(&arrays).map_err(DataFusionError::from)
    };
    let columns = (0..first.len()).map(column).collect::<DataFusionResult<Vec<_>>>()?;
    accumulator.update_batch(&columns)
}
