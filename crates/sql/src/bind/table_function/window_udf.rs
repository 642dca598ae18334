//! The kernels of TUMBLE, HOP, CUMULATE and SESSION: which windows a moment falls into.
//!
//! Windows start at `offset + n * slide` and are `size` long. All kernels take `(moment, slide, size, offset)`, the last
//! three as bigint literals, so that a plan can read a window's shape off the call; that of sessions takes the moment
//! before between the first two. They count in the moment's own unit:
//! microseconds after the epoch for a timestamp, ones for an integer. A window that begins or ends where the moment's type
//! does not reach is an error of its row.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::{cast, nullif};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use repr::{PgError, SqlState};

/// Which question a [`WindowFunction`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WindowPart {
    /// `tumble_start`: the start of the window the moment is in.
    TumbleStart,
    /// `hop_windows`: the starts of all windows the moment is in, earliest first.
    HopStarts,
    /// `window_end`: the end of the window that starts at the moment.
    End,
    /// `cumulate_ends`: the ends of all windows the moment is in, earliest first. They start together, one `size` after
    /// the other, and end every `slide`, at latest after `size`, which is a multiple of it.
    CumulateEnds,
    /// `session_start`: the moment itself if the one before it is more than `size` ago or NULL, otherwise NULL.
    SessionStart,
}

/// One of the kernels as a DataFusion function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowFunction {
    part: WindowPart,
    signature: Signature,
}

impl WindowFunction {
    pub(crate) fn new(part: WindowPart) -> WindowFunction {
        let arguments = if part == WindowPart::SessionStart { 5 } else { 4 };
        WindowFunction { part, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.part {
            WindowPart::TumbleStart => "tumble_start",
            WindowPart::HopStarts => "hop_windows",
            WindowPart::End => "window_end",
            WindowPart::CumulateEnds => "cumulate_ends",
            WindowPart::SessionStart => "session_start",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            WindowPart::HopStarts | WindowPart::CumulateEnds => DataType::new_list(arg_types[0].clone(), true),
            _ => arg_types[0].clone(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let first = args.args.len() - 3;
        let parameter = |index: usize| match &args.args[first + index] {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(value))) => Ok(*value),
            _ => exec_err!("{} needs constant window lengths", self.name()),
        };
        let shape = Shape { slide: parameter(0)?, size: parameter(1)?, offset: parameter(2)? };
        if shape.slide <= 0 || shape.size <= 0 {
            return exec_err!("{} needs lengths greater than zero", self.name());
        }
        let moments = args.args[0].to_array(args.number_rows)?;
        if self.part == WindowPart::SessionStart {
            let previous = args.args[1].to_array(args.number_rows)?;
            return session_starts(&moments, &previous, shape.size).map(ColumnarValue::Array);
        }
        let result = match moments.data_type() {
            DataType::Int16 => shape.windows::<Int16Type>(self.part, moments.as_primitive(), "smallint"),
            DataType::Int32 => shape.windows::<Int32Type>(self.part, moments.as_primitive(), "integer"),
            DataType::Int64 => shape.windows::<Int64Type>(self.part, moments.as_primitive(), "bigint"),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                shape.windows::<TimestampMicrosecondType>(self.part, moments.as_primitive(), "timestamp")
            }
            other => return exec_err!("{} has no windows over {other}", self.name()),
        };
        result.map(ColumnarValue::Array)
    }
}

/// How windows lie: one starts every `slide`, at `offset` among others, each is `size` long.
#[derive(Clone, Copy)]
struct Shape {
    slide: i64,
    size: i64,
    offset: i64,
}

impl Shape {
    /// The part of each moment's windows; `name` is what PostgreSQL calls the type.
    fn windows<T>(self, part: WindowPart, moments: &PrimitiveArray<T>, name: &'static str) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64> + TryFrom<i64>,
    {
        let narrow = |moment: Option<i64>| {
            moment.and_then(|moment| T::Native::try_from(moment).ok()).ok_or_else(|| out_of_range(name))
        };
        // The type again, because it may have a time zone.
        let data_type = moments.data_type().clone();
        Ok(match part {
            WindowPart::TumbleStart => {
                let starts = moments.try_unary::<_, T, _>(|moment| narrow(self.last_start(moment.into())))?;
                Arc::new(starts.with_data_type(data_type))
            }
            WindowPart::End => {
                let ends = moments.try_unary::<_, T, _>(|start| narrow(start.into().checked_add(self.size)))?;
                Arc::new(ends.with_data_type(data_type))
            }
            WindowPart::HopStarts => {
                self.lists(moments, |moment, take| self.hop_starts(moment, |start| narrow(start).map(&mut *take)))?
            }
            WindowPart::CumulateEnds => {
                self.lists(moments, |moment, take| self.cumulate_ends(moment, |end| narrow(end).map(&mut *take)))?
            }
            WindowPart::SessionStart => return exec_err!("session_start needs the moment before"),
        })
    }

    /// A list for each moment, of what `each` gives to its second argument; NULL for NULL.
    fn lists<T>(
        self,
        moments: &PrimitiveArray<T>,
        each: impl Fn(i64, &mut dyn FnMut(T::Native)) -> Result<()>,
    ) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        let mut elements: Vec<T::Native> = Vec::with_capacity(moments.len() * self.most_windows());
        let mut lengths = Vec::with_capacity(moments.len());
        for moment in moments.iter() {
            let before = elements.len();
            if let Some(moment) = moment {
                each(moment.into(), &mut |element| elements.push(element))?;
            }
            lengths.push(elements.len() - before);
        }
        // The type again, because it may have a time zone.
        let data_type = moments.data_type().clone();
        let values = PrimitiveArray::<T>::new(ScalarBuffer::from(elements), None);
        let values = Arc::new(values.with_data_type(data_type.clone()));
        let field = Arc::new(Field::new_list_field(data_type, true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(field, offsets, values, moments.nulls().cloned())?))
    }

    /// The windows that can hold one moment, as far as memory is worth setting aside for them.
    fn most_windows(self) -> usize {
        ((self.size - 1) / self.slide + 1).min(64) as usize
    }

    /// How far `moment` is into the latest window that starts at or before it.
    #[inline]
    fn within(self, moment: i64) -> i64 {
        // Both remainders are less than a slide, so that their difference cannot overflow.
        let difference = moment.rem_euclid(self.slide) - self.offset.rem_euclid(self.slide);
        if difference < 0 { difference + self.slide } else { difference }
    }

    /// The latest window start at or before `moment`; None before the first number there is.
    #[inline]
    fn last_start(self, moment: i64) -> Option<i64> {
        moment.checked_sub(self.within(moment))
    }

    /// The ends of the windows that hold `moment`, earliest first; None for one beyond the last number there is.
    #[inline]
    fn cumulate_ends(self, moment: i64, mut take: impl FnMut(Option<i64>) -> Result<()>) -> Result<()> {
        let within = Shape { slide: self.size, ..self }.within(moment);
        let start = moment.checked_sub(within);
        let last = self.size / self.slide;
        (within / self.slide + 1..=last)
            .try_for_each(|k| take(start.and_then(|start| start.checked_add(k * self.slide))))
    }

    /// The starts of the windows that hold `moment`, earliest first; None for one before the first number there is.
    #[inline]
    fn hop_starts(self, moment: i64, mut take: impl FnMut(Option<i64>) -> Result<()>) -> Result<()> {
        let within = self.within(moment);
        if within >= self.size {
            return Ok(());
        }
        let last = moment.checked_sub(within);
        // A window that starts `k` slides earlier still holds the moment while it is less than `size` after its start.
        let count = (self.size - within - 1) / self.slide;
        (0..=count).rev().try_for_each(|k| take(last.and_then(|last| last.checked_sub(k * self.slide))))
    }
}

/// The moments that start a session: those more than `gap` after the one before, and those without one.
fn session_starts(moments: &ArrayRef, previous: &ArrayRef, gap: i64) -> Result<ArrayRef> {
    let counts = |array: &ArrayRef| cast(array, &DataType::Int64);
    let (counted, before) = (counts(moments)?, counts(previous)?);
    let (counted, before) = (counted.as_primitive::<Int64Type>(), before.as_primitive::<Int64Type>());
    let goes_on = counted.iter().zip(before).map(|(moment, before)| {
        let pause = i128::from(moment.unwrap_or_default()) - i128::from(before.unwrap_or_default());
        Some(before.is_some() && pause <= i128::from(gap))
    });
    Ok(nullif(moments, &goes_on.collect::<BooleanArray>())?)
}

fn out_of_range(type_name: &str) -> DataFusionError {
    let state = match type_name {
        "timestamp" => SqlState::DATETIME_FIELD_OVERFLOW,
        _ => SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
    };
    DataFusionError::External(Box::new(PgError::new(state, format!("{type_name} out of range"))))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;

    use super::*;

    fn hops(moment: i64, slide: i64, size: i64, offset: i64) -> Vec<i64> {
        let moments = Int64Array::from(vec![moment]);
        let list =
            Shape { slide, size, offset }.windows::<Int64Type>(WindowPart::HopStarts, &moments, "bigint").unwrap();
        list.as_list::<i32>().value(0).as_primitive::<Int64Type>().values().to_vec()
    }

    fn last_start(moment: i64, slide: i64, offset: i64) -> Option<i64> {
        Shape { slide, size: slide, offset }.last_start(moment)
    }

    #[test]
    fn a_moment_is_in_every_window_that_covers_it() {
        assert_eq!(hops(7, 2, 6, 0), vec![2, 4, 6]);
        assert_eq!(hops(6, 2, 6, 0), vec![2, 4, 6]);
        assert_eq!(hops(-1, 2, 6, 0), vec![-6, -4, -2]);
        assert_eq!(hops(7, 2, 6, 1), vec![3, 5, 7]);
        assert_eq!(hops(7, 5, 6, 0), vec![5]);
        assert_eq!(hops(5, 5, 6, 0), vec![0, 5]);
    }

    #[test]
    fn cumulated_windows_start_together() {
        let ends = |moment: i64, slide: i64, size: i64, offset: i64| {
            let moments = Int64Array::from(vec![Some(moment), None]);
            let list = Shape { slide, size, offset }
                .windows::<Int64Type>(WindowPart::CumulateEnds, &moments, "bigint")
                .unwrap();
            assert!(list.is_null(1));
            list.as_list::<i32>().value(0).as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!(ends(0, 2, 6, 0), vec![2, 4, 6]);
        assert_eq!(ends(3, 2, 6, 0), vec![4, 6]);
        assert_eq!(ends(5, 2, 6, 0), vec![6]);
        assert_eq!(ends(-1, 2, 6, 0), vec![0]);
        assert_eq!(ends(6, 2, 6, 1), vec![7]);
        assert_eq!(ends(7, 2, 6, 1), vec![9, 11, 13]);
        assert_eq!(ends(7, 5, 5, 0), vec![10]);
    }

    #[test]
    fn a_session_starts_after_a_pause_longer_than_the_gap() {
        let moments: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), Some(15), Some(26), Some(i64::MAX), None]));
        let previous: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(5), Some(15), Some(i64::MIN), Some(1)]));
        let starts = session_starts(&moments, &previous, 10).unwrap();
        let starts: Vec<Option<i64>> = starts.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(starts, vec![Some(5), None, Some(26), Some(i64::MAX), None]);
    }

    #[test]
    fn windows_shorter_than_their_slide_leave_gaps() {
        assert_eq!(hops(7, 5, 2, 0), Vec::<i64>::new());
        assert_eq!(hops(6, 5, 2, 0), vec![5]);
    }

    #[test]
    fn starts_before_the_epoch_round_down() {
        assert_eq!(last_start(-1, 10, 0), Some(-10));
        assert_eq!(last_start(-10, 10, 0), Some(-10));
        assert_eq!(last_start(13, 10, 4), Some(4));
    }

    #[test]
    fn the_ends_of_a_type_are_errors_and_nothing_else_is() {
        assert_eq!(last_start(i64::MIN + 1, 10, 0), None);
        assert_eq!(last_start(i64::MIN, 2, 0), Some(i64::MIN));
        assert_eq!(last_start(i64::MAX, i64::MAX, i64::MIN), Some(i64::MAX - 1));
        let windows = |part, moment: i16| {
            let moments = PrimitiveArray::<Int16Type>::from(vec![Some(moment), None]);
            Shape { slide: 10, size: 30, offset: 0 }.windows::<Int16Type>(part, &moments, "smallint")
        };
        for part in [WindowPart::TumbleStart, WindowPart::HopStarts] {
            assert!(windows(part, i16::MIN).is_err());
            assert!(windows(part, i16::MAX).unwrap().is_null(1));
        }
        assert!(windows(WindowPart::End, 32_760).is_err());
        assert!(windows(WindowPart::End, 32_737).is_ok());
    }
}
