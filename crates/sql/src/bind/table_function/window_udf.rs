//! The kernels of TUMBLE and HOP: which windows a moment falls into.
//!
//! Windows start at `offset + n * slide` microseconds after the epoch and are `size` long. All of them take
//! `(moment, slide, size, offset)`, the last three as bigint literals, so that a plan can read a window's shape off the call.
//! Arithmetic wraps only within an hour of the ends of an `i64`, which PostgreSQL's timestamps do not reach.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Which question a [`WindowFunction`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WindowPart {
    /// `tumble_start`: the start of the window the moment is in.
    TumbleStart,
    /// `hop_windows`: the starts of all windows the moment is in, earliest first.
    HopStarts,
    /// `window_end`: the end of the window that starts at the moment.
    End,
}

/// One of the kernels as a DataFusion function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowFunction {
    part: WindowPart,
    signature: Signature,
}

impl WindowFunction {
    pub(crate) fn new(part: WindowPart) -> WindowFunction {
        WindowFunction { part, signature: Signature::any(4, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.part {
            WindowPart::TumbleStart => "tumble_start",
            WindowPart::HopStarts => "hop_windows",
            WindowPart::End => "window_end",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            WindowPart::HopStarts => DataType::new_list(arg_types[0].clone(), true),
            _ => arg_types[0].clone(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let parameter = |index: usize| match &args.args[index] {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(value))) => Ok(*value),
            _ => exec_err!("{} needs constant window lengths", self.name()),
        };
        let (slide, size, offset) = (parameter(1)?, parameter(2)?, parameter(3)?);
        if slide <= 0 || size <= 0 {
            return exec_err!("{} needs lengths greater than zero", self.name());
        }
        let moments = args.args[0].to_array(args.number_rows)?;
        let Some(moments) = moments.as_primitive_opt::<TimestampMicrosecondType>() else {
            return exec_err!("{} needs a timestamp, not {}", self.name(), moments.data_type());
        };
        let zone = moments.data_type().clone();
        let result: ArrayRef = match self.part {
            WindowPart::TumbleStart => Arc::new(
                moments
                    .unary::<_, TimestampMicrosecondType>(|moment| last_start(moment, slide, offset))
                    .with_data_type(zone),
            ),
            WindowPart::End => Arc::new(
                moments.unary::<_, TimestampMicrosecondType>(|moment| moment.wrapping_add(size)).with_data_type(zone),
            ),
            WindowPart::HopStarts => Arc::new(hop_starts(moments, slide, size, offset)?),
        };
        Ok(ColumnarValue::Array(result))
    }
}

/// The latest window start at or before `moment`.
fn last_start(moment: i64, slide: i64, offset: i64) -> i64 {
    moment.wrapping_sub(moment.wrapping_sub(offset).rem_euclid(slide))
}

fn hop_starts(
    moments: &PrimitiveArray<TimestampMicrosecondType>,
    slide: i64,
    size: i64,
    offset: i64,
) -> Result<ListArray> {
    let mut starts: Vec<i64> = Vec::new();
    let mut lengths = Vec::with_capacity(moments.len());
    for moment in moments.iter() {
        let before = starts.len();
        if let Some(moment) = moment {
            let last = last_start(moment, slide, offset);
            // Windows that start at `last - k * slide` still hold the moment while it is less than `size` after them.
            let within = moment.wrapping_sub(last);
            if within < size {
                let count = (size - within - 1) / slide;
                starts.extend((0..=count).rev().map(|k| last.wrapping_sub(k * slide)));
            }
        }
        lengths.push(starts.len() - before);
    }
    let data_type = moments.data_type().clone();
    let values = TimestampMicrosecondArray::from(starts).with_data_type(data_type.clone());
    let field = Arc::new(Field::new_list_field(data_type, true));
    Ok(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), Arc::new(values), moments.nulls().cloned())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(moment: i64, slide: i64, size: i64, offset: i64) -> Vec<i64> {
        let list = hop_starts(&TimestampMicrosecondArray::from(vec![moment]), slide, size, offset).unwrap();
        list.value(0).as_primitive::<TimestampMicrosecondType>().values().to_vec()
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
    fn windows_shorter_than_their_slide_leave_gaps() {
        assert_eq!(hops(7, 5, 2, 0), Vec::<i64>::new());
        assert_eq!(hops(6, 5, 2, 0), vec![5]);
    }

    #[test]
    fn starts_before_the_epoch_round_down() {
        assert_eq!(last_start(-1, 10, 0), -10);
        assert_eq!(last_start(-10, 10, 0), -10);
        assert_eq!(last_start(13, 10, 4), 4);
    }
}
