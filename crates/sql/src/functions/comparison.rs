//! Keys under which PostgreSQL's order and equality are those of stored bytes, and what compares values row by row.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::*;
use repr::PgError;
use repr::numeric;
use repr::text::interval::Interval;

use super::arithmetic::Float;
use super::kernel::Call;

/// A numeric's bytes without the display scale.
pub(crate) fn numeric_key(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.large_bytes(0);
    let mut builder = arrow::array::LargeBinaryBuilder::with_capacity(call.rows(), call.rows() * 8);
    for row in 0..call.rows() {
        builder.append_option(call.is_valid(row).then(|| numeric::key(values.get(row))));
    }
    Ok(Arc::new(builder.finish()))
}

/// An interval's span in microseconds, as 16 bytes in its order.
pub(crate) fn interval_key_bytes(interval: &Interval) -> [u8; 16] {
    ((interval.span() as u128) ^ (1 << 127)).to_be_bytes()
}

pub(crate) fn interval_key(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.interval(0);
    let mut builder = arrow::array::LargeBinaryBuilder::with_capacity(call.rows(), call.rows() * 16);
    for row in 0..call.rows() {
        match call.is_valid(row) {
            true => builder.append_value(interval_key_bytes(&values.get(row))),
            false => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// char(n) without the blanks that do not count.
pub(crate) fn bpchar_key(call: &Call) -> Result<ArrayRef, PgError> {
    super::conversion::bpchar_to_text(call)
}

/// How PostgreSQL orders values of one Arrow type. Both indexes are of rows that are not NULL.
pub(crate) fn comparator(
    left: &ArrayRef,
    right: &ArrayRef,
) -> Result<Box<dyn Fn(usize, usize) -> Ordering + Send + Sync>, PgError> {
    match left.data_type() {
        DataType::Float32 => Ok(float_comparator::<Float32Type>(left, right)),
        DataType::Float64 => Ok(float_comparator::<Float64Type>(left, right)),
        DataType::LargeBinary => {
            let (left, right) = (left.as_binary::<i64>().clone(), right.as_binary::<i64>().clone());
            Ok(Box::new(move |l, r| numeric::key(left.value(l)).cmp(numeric::key(right.value(r)))))
        }
        DataType::Interval(_) => {
            let span = |array: &ArrayRef| array.as_primitive::<IntervalMonthDayNanoType>().clone();
            let (left, right) = (span(left), span(right));
            Ok(Box::new(move |l, r| {
                let span = |value| Interval::from_arrow(value).span();
                span(left.value(l)).cmp(&span(right.value(r)))
            }))
        }
        DataType::List(_) => {
            let (left, right) = (left.as_list::<i32>().clone(), right.as_list::<i32>().clone());
            let elements = comparator(left.values(), right.values())?;
            let (left_values, right_values) = (Arc::clone(left.values()), Arc::clone(right.values()));
            Ok(Box::new(move |l, r| {
                let (left_start, left_end) = (left.value_offsets()[l] as usize, left.value_offsets()[l + 1] as usize);
                let (right_start, right_end) =
                    (right.value_offsets()[r] as usize, right.value_offsets()[r + 1] as usize);
                for (l, r) in (left_start..left_end).zip(right_start..right_end) {
                    // Within arrays NULL equals itself and is greater than any value.
                    let order = match (left_values.is_null(l), right_values.is_null(r)) {
                        (true, true) => Ordering::Equal,
                        (true, false) => Ordering::Greater,
                        (false, true) => Ordering::Less,
                        (false, false) => elements(l, r),
                    };
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                (left_end - left_start).cmp(&(right_end - right_start))
            }))
        }
        _ => make_comparator(left, right, SortOptions::default()).map_err(|error| PgError::internal(error.to_string())),
    }
}

fn float_comparator<T: Float>(
    left: &ArrayRef,
    right: &ArrayRef,
) -> Box<dyn Fn(usize, usize) -> Ordering + Send + Sync> {
    let (left, right) = (left.as_primitive::<T>().clone(), right.as_primitive::<T>().clone());
    // Widening keeps order; the keyed NaN is the greatest of total order.
    Box::new(move |l, r| T::wide(T::key(left.value(l))).total_cmp(&T::wide(T::key(right.value(r)))))
}

fn extreme(call: &Call, wanted: Ordering) -> Result<ArrayRef, PgError> {
    let arrays: Vec<&dyn Array> = (0..call.argument_count()).map(|index| call.argument(index).0.as_ref()).collect();
    let mut starts = Vec::with_capacity(arrays.len());
    let mut start = 0;
    for array in &arrays {
        starts.push(start);
        start += array.len();
    }
    let all = concat(&arrays).map_err(|error| PgError::internal(error.to_string()))?;
    let compare = comparator(&all, &all)?;
    let picked: UInt32Array = (0..call.rows())
        .map(|row| {
            let mut best: Option<usize> = None;
            for (argument, start) in starts.iter().enumerate() {
                if call.is_null(argument, row) {
                    continue;
                }
                let candidate = start + call.index(argument, row);
                if best.is_none_or(|best| compare(candidate, best) == wanted) {
                    best = Some(candidate);
                }
            }
            best.map(|best| best as u32)
        })
        .collect();
    take(&all, &picked, None).map_err(|error| PgError::internal(error.to_string()))
}

/// The greatest argument that is not NULL.
pub(crate) fn greatest(call: &Call) -> Result<ArrayRef, PgError> {
    extreme(call, Ordering::Greater)
}

/// The least argument that is not NULL.
pub(crate) fn least(call: &Call) -> Result<ArrayRef, PgError> {
    extreme(call, Ordering::Less)
}

fn compare(call: &Call, accept: fn(Ordering) -> bool) -> Result<ArrayRef, PgError> {
    let compare = comparator(call.argument(0).0, call.argument(1).0)?;
    call.map_bool(|row| Ok(accept(compare(call.index(0, row), call.index(1, row)))))
}

pub(crate) fn equal(call: &Call) -> Result<ArrayRef, PgError> {
    compare(call, Ordering::is_eq)
}

pub(crate) fn not_equal(call: &Call) -> Result<ArrayRef, PgError> {
    compare(call, Ordering::is_ne)
}

pub(crate) fn less(call: &Call) -> Result<ArrayRef, PgError> {
    compare(call, Ordering::is_lt)
}

pub(crate) fn less_or_equal(call: &Call) -> Result<ArrayRef, PgError> {
    compare(call, Ordering::is_le)
}

pub(crate) fn greater(call: &Call) -> Result<ArrayRef, PgError> {
    compare(call, Ordering::is_gt)
}

pub(crate) fn greater_or_equal(call: &Call) -> Result<ArrayRef, PgError> {
    compare(call, Ordering::is_ge)
}

/// `element op ANY (array)`: the order of arguments is element, array.
fn any_element(call: &Call, accept: fn(Ordering) -> bool, all: bool) -> Result<ArrayRef, PgError> {
    let lists = call.argument(1).0.as_list::<i32>();
    let compare = comparator(call.argument(0).0, lists.values())?;
    call.map_bool_nullable(|row| {
        let (element, list) = (call.index(0, row), call.index(1, row));
        let (start, end) = (lists.value_offsets()[list] as usize, lists.value_offsets()[list + 1] as usize);
        let mut unknown = false;
        for index in start..end {
            if lists.values().is_null(index) {
                unknown = true;
            } else if accept(compare(element, index)) != all {
                return Ok(Some(!all));
            }
        }
        Ok((!unknown).then_some(all))
    })
}

macro_rules! quantified {
    ($($any:ident $all:ident $accept:path;)*) => {
        $(
            pub(crate) fn $any(call: &Call) -> Result<ArrayRef, PgError> {
                any_element(call, $accept, false)
            }

            pub(crate) fn $all(call: &Call) -> Result<ArrayRef, PgError> {
                any_element(call, $accept, true)
            }
        )*
    };
}

quantified! {
    equal_any equal_all Ordering::is_eq;
    not_equal_any not_equal_all Ordering::is_ne;
    less_any less_all Ordering::is_lt;
    less_or_equal_any less_or_equal_all Ordering::is_le;
    greater_any greater_all Ordering::is_gt;
    greater_or_equal_any greater_or_equal_all Ordering::is_ge;
}
