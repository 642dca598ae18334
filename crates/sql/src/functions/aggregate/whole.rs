//! What [`Collected`](super::collected::Collected) rows of one group come to, where it is one value: bit_and and its kin,
//! variances of numeric and double, mode and the percentiles, and what the files beside this one know.
//!
//! Rows come sorted, so that the answer does not depend on how they came, not even in a double's last bit.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::*;
use repr::numeric::{Numeric, Spread};
use repr::text::interval::Interval;
use repr::{PgError, SqlState};

use super::collected::list;
use super::{Shape, first, hypothetical, json, regression};

fn internal(error: arrow::error::ArrowError) -> PgError {
    PgError::internal(error.to_string())
}

/// The type of the answer.
pub(crate) fn result_type(name: &'static str, arguments: &[DataType]) -> Result<DataType, PgError> {
    let value = first(arguments)?.clone();
    Ok(match (name, arguments) {
        ("percentile_cont" | "percentile_disc", [_, DataType::List(_)]) => DataType::new_list(value, true),
        ("rank" | "dense_rank" | "regr_count", _) => DataType::Int64,
        ("percent_rank" | "cume_dist", _) => DataType::Float64,
        _ if regression::is_regression(name) => DataType::Float64,
        _ if json::is_json(name) => DataType::LargeUtf8,
        _ if Spread::named(name).is_some() => match value {
            DataType::Float32 | DataType::Float64 => DataType::Float64,
            _ => DataType::LargeBinary,
        },
        _ => value,
    })
}

/// One value from a group's rows: the arguments, then what ORDER BY names.
pub(crate) fn answer(name: &'static str, shape: &Shape, rows: &[ArrayRef]) -> Result<ArrayRef, PgError> {
    match name {
        _ if json::is_json(name) => return json::answer(name, rows),
        _ if regression::is_regression(name) => return regression::answer(name, rows),
        _ if hypothetical::is_hypothetical(name) => return hypothetical::answer(name, shape, rows),
        _ => {}
    }
    let result = result_type(name, &shape.arguments)?;
    let values = &rows[0];
    let present: Vec<usize> = (0..values.len()).filter(|row| values.is_valid(*row)).collect();
    if present.is_empty() {
        return Ok(new_null_array(&result, 1));
    }
    match (name, Spread::named(name)) {
        (_, Some(spread)) => match values.data_type() {
            DataType::Float32 | DataType::Float64 => float_spread(spread, values, &present),
            _ => numeric_spread(spread, values, &present),
        },
        ("mode", _) => mode(values, &rows[shape.arguments.len()], &present),
        ("percentile_cont" | "percentile_disc", _) => percentiles(name, values, &rows[1], &present, &result),
        _ => bits(name, values),
    }
}

fn bits(name: &'static str, values: &ArrayRef) -> Result<ArrayRef, PgError> {
    fn folded<T: ArrowPrimitiveType>(values: &ArrayRef, combine: fn(T::Native, T::Native) -> T::Native) -> ArrayRef {
        let folded = values.as_primitive::<T>().iter().flatten().reduce(combine);
        Arc::new(PrimitiveArray::<T>::from_iter([folded]))
    }
    macro_rules! each {
        ($type:ty) => {
            match name {
                "bit_and" => folded::<$type>(values, |left, right| left & right),
                "bit_or" => folded::<$type>(values, |left, right| left | right),
                _ => folded::<$type>(values, |left, right| left ^ right),
            }
        };
    }
    match values.data_type() {
        DataType::Int16 => Ok(each!(Int16Type)),
        DataType::Int32 => Ok(each!(Int32Type)),
        DataType::Int64 => Ok(each!(Int64Type)),
        other => Err(PgError::internal(format!("{name} over {other}"))),
    }
}

fn numeric_spread(spread: Spread, values: &ArrayRef, present: &[usize]) -> Result<ArrayRef, PgError> {
    let values = values.as_binary::<i64>();
    let (mut sum, mut squares) = (Numeric::ZERO, Numeric::ZERO);
    for row in present {
        let value = Numeric::decode(values.value(*row));
        sum = sum.add(&value)?;
        squares = squares.add(&value.mul(&value)?)?;
    }
    let answer = spread.of(present.len() as i64, &sum, &squares)?;
    Ok(Arc::new(LargeBinaryArray::from_iter([answer.map(|answer| answer.encode())])))
}

/// Youngs and Cramer's recurrence, as in PostgreSQL.
fn float_spread(spread: Spread, values: &ArrayRef, present: &[usize]) -> Result<ArrayRef, PgError> {
    let value = |row: usize| match values.data_type() {
        DataType::Float32 => values.as_primitive::<Float32Type>().value(row) as f64,
        _ => values.as_primitive::<Float64Type>().value(row),
    };
    let (mut count, mut sum, mut squares) = (0f64, 0f64, 0f64);
    for row in present {
        let value = value(*row);
        let before = sum;
        count += 1.0;
        sum += value;
        if count == 1.0 {
            squares = if value.is_finite() { 0.0 } else { f64::NAN };
            continue;
        }
        let deviation = value * count - sum;
        squares += deviation * deviation / (count * (count - 1.0));
        if sum.is_infinite() || squares.is_infinite() {
            if !before.is_infinite() && !value.is_infinite() {
                return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
            }
            squares = f64::NAN;
        }
    }
    let divisor = if spread.sample { count - 1.0 } else { count };
    let answer = (divisor > 0.0).then(|| squares / divisor).map(|value| if spread.root { value.sqrt() } else { value });
    Ok(Arc::new(Float64Array::from(vec![answer])))
}

/// The value that is there most often; of several the first in order.
fn mode(values: &ArrayRef, key: &ArrayRef, present: &[usize]) -> Result<ArrayRef, PgError> {
    let compare = make_comparator(key.as_ref(), key.as_ref(), SortOptions::default()).map_err(internal)?;
    let (mut best, mut longest) = (present[0], 0);
    for run in present.chunk_by(|left, right| compare(*left, *right).is_eq()) {
        if run.len() > longest {
            (best, longest) = (run[0], run.len());
        }
    }
    Ok(values.slice(best, 1))
}

/// For one fraction, or for each of an array of them.
fn percentiles(
    name: &'static str,
    values: &ArrayRef,
    fractions: &ArrayRef,
    present: &[usize],
    result: &DataType,
) -> Result<ArrayRef, PgError> {
    let at = |fraction: Option<f64>| match fraction {
        None => Ok(new_null_array(values.data_type(), 1)),
        Some(fraction) if !(0.0..=1.0).contains(&fraction) => Err(PgError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("percentile value {fraction} is not between 0 and 1"),
        )),
        Some(fraction) if name == "percentile_disc" => {
            let place = (fraction * present.len() as f64).ceil() as usize;
            Ok(values.slice(present[place.max(1) - 1], 1))
        }
        Some(fraction) => between(values, present, fraction),
    };
    let DataType::List(_) = result else {
        return at(fractions.as_primitive::<Float64Type>().iter().next().flatten());
    };
    let lists = fractions.as_list::<i32>();
    if lists.is_null(0) {
        return Ok(new_null_array(result, 1));
    }
    let fractions = lists.value(0);
    let answers = fractions.as_primitive::<Float64Type>().iter().map(at).collect::<Result<Vec<_>, _>>()?;
    let answers: Vec<&dyn Array> = answers.iter().map(|answer| answer.as_ref()).collect();
    let answers =
        if answers.is_empty() { new_empty_array(values.data_type()) } else { concat(&answers).map_err(internal)? };
    list(vec![Some(answers)], values.data_type())
}

/// The value at a fraction of the way, between two neighbours where it falls between them.
fn between(values: &ArrayRef, present: &[usize], fraction: f64) -> Result<ArrayRef, PgError> {
    let place = fraction * (present.len() - 1) as f64;
    let (low, high) = (present[place.floor() as usize], present[place.ceil() as usize]);
    let share = place - place.floor();
    if low == high {
        return Ok(values.slice(low, 1));
    }
    match values.data_type() {
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            let (low, high) = (values.value(low), values.value(high));
            Ok(Arc::new(Float64Array::from(vec![low + share * (high - low)])))
        }
        DataType::Interval(_) => {
            let values = values.as_primitive::<IntervalMonthDayNanoType>();
            let (low, high) = (Interval::from_arrow(values.value(low)), Interval::from_arrow(values.value(high)));
            let value = low.add(&high.add(&low.neg()?)?.multiply(share)?)?;
            Ok(Arc::new(IntervalMonthDayNanoArray::from(vec![value.to_arrow()?])))
        }
        other => Err(PgError::internal(format!("percentile_cont over {other}"))),
    }
}
