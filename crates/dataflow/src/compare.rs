//! The order of two values, as PostgreSQL has it.

use std::cmp::{Ordering, Reverse};

use arrow::array::{Array, ArrayRef, AsArray, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::*;

/// Orders two values of one type. NULL goes first or last whatever the direction.
pub(crate) fn compare_values(
    left: &ArrayRef,
    i: usize,
    right: &ArrayRef,
    j: usize,
    descending: bool,
    nulls_first: bool,
) -> Ordering {
    let nulls = if nulls_first { Ordering::Less } else { Ordering::Greater };
    match (left.is_null(i), right.is_null(j)) {
        (true, true) => return Ordering::Equal,
        (true, false) => return nulls,
        (false, true) => return nulls.reverse(),
        (false, false) => {}
    }
    macro_rules! primitive {
        ($type:ty) => {
            left.as_primitive::<$type>().values()[i].cmp(&right.as_primitive::<$type>().values()[j])
        };
    }
    macro_rules! float {
        ($type:ty) => {{
            let (left, right) = (left.as_primitive::<$type>().values()[i], right.as_primitive::<$type>().values()[j]);
            left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
        }};
    }
    let order = match left.data_type() {
        DataType::Boolean => left.as_boolean().value(i).cmp(&right.as_boolean().value(j)),
        DataType::Int16 => primitive!(Int16Type),
        DataType::Int32 => primitive!(Int32Type),
        DataType::Int64 => primitive!(Int64Type),
        DataType::UInt32 => primitive!(UInt32Type),
        DataType::Float32 => float!(Float32Type),
        DataType::Float64 => float!(Float64Type),
        DataType::Date32 => primitive!(Date32Type),
        DataType::Time64(_) => primitive!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive!(TimestampMicrosecondType),
        DataType::Decimal128(_, _) => primitive!(Decimal128Type),
        DataType::Utf8 => left.as_string::<i32>().value(i).cmp(right.as_string::<i32>().value(j)),
        DataType::LargeUtf8 => left.as_string::<i64>().value(i).cmp(right.as_string::<i64>().value(j)),
        DataType::Binary => left.as_binary::<i32>().value(i).cmp(right.as_binary::<i32>().value(j)),
        DataType::LargeBinary => left.as_binary::<i64>().value(i).cmp(right.as_binary::<i64>().value(j)),
        DataType::FixedSizeBinary(_) => left.as_fixed_size_binary().value(i).cmp(right.as_fixed_size_binary().value(j)),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let left = left.as_primitive::<IntervalMonthDayNanoType>().value(i);
            let right = right.as_primitive::<IntervalMonthDayNanoType>().value(j);
            let parts =
                |value: IntervalMonthDayNano| (interval_length(value), Reverse(value.months), Reverse(value.days));
            parts(left).cmp(&parts(right))
        }
        DataType::Null => Ordering::Equal,
        _ => make_comparator(left.as_ref(), right.as_ref(), SortOptions::default())
            .map_or(Ordering::Equal, |compare| compare(i, j)),
    };
    if descending { order.reverse() } else { order }
}

/// How long an interval is by PostgreSQL's comparison: months of 30 days of 24 hours, in nanoseconds.
pub(crate) fn interval_length(value: IntervalMonthDayNano) -> i128 {
    const DAY: i128 = 86_400_000_000_000;
    (value.months as i128 * 30 + value.days as i128) * DAY + value.nanoseconds as i128
}
