//! `+ - * / %` and bits over integers, floats and numerics, with PostgreSQL's range checks.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::*;
use repr::{PgError, SqlState};

use super::kernel::Call;

/// `22012`.
pub(crate) fn division_by_zero() -> PgError {
    PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// `22003`, naming the type.
pub(crate) fn out_of_range(type_name: &str) -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
}

pub(crate) fn overflow() -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

pub(crate) fn underflow() -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow")
}

/// The integer types and what differs among them.
pub(crate) trait Integer: ArrowPrimitiveType {
    const NAME: &'static str;
    fn add(left: Self::Native, right: Self::Native) -> (Self::Native, bool);
    fn sub(left: Self::Native, right: Self::Native) -> (Self::Native, bool);
    fn mul(left: Self::Native, right: Self::Native) -> (Self::Native, bool);
    /// None for a zero divisor; the flag is the overflow of the smallest value by -1.
    fn div(left: Self::Native, right: Self::Native) -> Option<(Self::Native, bool)>;
    fn rem(left: Self::Native, right: Self::Native) -> Option<Self::Native>;
    fn bits(value: Self::Native) -> i64;
    fn from_bits(bits: i64) -> Self::Native;
    fn shift_left(value: Self::Native, by: i32) -> Self::Native;
    fn shift_right(value: Self::Native, by: i32) -> Self::Native;
}

macro_rules! integer {
    ($arrow:ty, $native:ty, $name:literal) => {
        impl Integer for $arrow {
            const NAME: &'static str = $name;
            #[inline(always)]
            fn add(left: $native, right: $native) -> ($native, bool) {
                left.overflowing_add(right)
            }
            #[inline(always)]
            fn sub(left: $native, right: $native) -> ($native, bool) {
                left.overflowing_sub(right)
            }
            #[inline(always)]
            fn mul(left: $native, right: $native) -> ($native, bool) {
                left.overflowing_mul(right)
            }
            #[inline(always)]
            fn div(left: $native, right: $native) -> Option<($native, bool)> {
                (right != 0).then(|| left.overflowing_div(right))
            }
            #[inline(always)]
            fn rem(left: $native, right: $native) -> Option<$native> {
                (right != 0).then(|| left.wrapping_rem(right))
            }
            fn bits(value: $native) -> i64 {
                value as i64
            }
            fn from_bits(bits: i64) -> $native {
                bits as $native
            }
            fn shift_left(value: $native, by: i32) -> $native {
                // PostgreSQL computes smallint in 32 bits and cuts the result.
                if <$native>::BITS == 16 {
                    (value as i32).wrapping_shl(by as u32) as $native
                } else {
                    value.wrapping_shl(by as u32)
                }
            }
            fn shift_right(value: $native, by: i32) -> $native {
                if <$native>::BITS == 16 {
                    (value as i32).wrapping_shr(by as u32) as $native
                } else {
                    value.wrapping_shr(by as u32)
                }
            }
        }
    };
}

integer!(Int16Type, i16, "smallint");
integer!(Int32Type, i32, "integer");
integer!(Int64Type, i64, "bigint");

/// Computes every row without a branch, and looks for the row at fault only if some row overflowed: values under NULL
/// may be anything and must not fail.
fn checked<T: Integer>(
    call: &Call,
    compute: impl Fn(T::Native, T::Native) -> (T::Native, bool),
) -> Result<ArrayRef, PgError> {
    let ((left, left_constant), (right, right_constant)) = (call.argument(0), call.argument(1));
    let (left, right) = (left.as_primitive::<T>().values(), right.as_primitive::<T>().values());
    let mut overflowed = false;
    let mut one = |left: T::Native, right: T::Native| {
        let (value, overflow) = compute(left, right);
        overflowed |= overflow;
        value
    };
    let values: Vec<T::Native> = match (left_constant, right_constant) {
        (false, false) => left.iter().zip(right.iter()).map(|(left, right)| one(*left, *right)).collect(),
        (false, true) => {
            let right = right[0];
            left.iter().map(|left| one(*left, right)).collect()
        }
        (true, false) => {
            let left = left[0];
            right.iter().map(|right| one(left, *right)).collect()
        }
        (true, true) => vec![one(left[0], right[0])],
    };
    if overflowed {
        let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
        for row in 0..call.rows() {
            if call.is_valid(row) && compute(left.get(row), right.get(row)).1 {
                return Err(out_of_range(T::NAME));
            }
        }
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), call.nulls().cloned())))
}

pub(crate) fn int_add<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    checked::<T>(call, T::add)
}

pub(crate) fn int_sub<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    checked::<T>(call, T::sub)
}

pub(crate) fn int_mul<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    checked::<T>(call, T::mul)
}

pub(crate) fn int_div<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| match T::div(left.get(row), right.get(row)) {
        Some((value, false)) => Ok(value),
        Some((_, true)) => Err(out_of_range(T::NAME)),
        None => Err(division_by_zero()),
    })
}

pub(crate) fn int_rem<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| T::rem(left.get(row), right.get(row)).ok_or_else(division_by_zero))
}

pub(crate) fn int_neg<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<T>(0);
    call.map::<T>(|row| match T::sub(T::from_bits(0), values.get(row)) {
        (value, false) => Ok(value),
        _ => Err(out_of_range(T::NAME)),
    })
}

pub(crate) fn int_abs<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<T>(0);
    call.map::<T>(|row| {
        let value = values.get(row);
        if T::bits(value) >= 0 {
            return Ok(value);
        }
        match T::sub(T::from_bits(0), value) {
            (value, false) => Ok(value),
            _ => Err(out_of_range(T::NAME)),
        }
    })
}

pub(crate) fn int_and<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| Ok(T::from_bits(T::bits(left.get(row)) & T::bits(right.get(row)))))
}

pub(crate) fn int_or<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| Ok(T::from_bits(T::bits(left.get(row)) | T::bits(right.get(row)))))
}

pub(crate) fn int_xor<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| Ok(T::from_bits(T::bits(left.get(row)) ^ T::bits(right.get(row)))))
}

pub(crate) fn int_not<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<T>(0);
    call.map::<T>(|row| Ok(T::from_bits(!T::bits(values.get(row)))))
}

pub(crate) fn int_shift_left<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, by) = (call.primitive::<T>(0), call.int4(1));
    call.map::<T>(|row| Ok(T::shift_left(values.get(row), by.get(row))))
}

pub(crate) fn int_shift_right<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, by) = (call.primitive::<T>(0), call.int4(1));
    call.map::<T>(|row| Ok(T::shift_right(values.get(row), by.get(row))))
}

/// The float types.
pub(crate) trait Float: ArrowPrimitiveType {
    fn wide(value: Self::Native) -> f64;
    fn add(left: Self::Native, right: Self::Native) -> Self::Native;
    fn sub(left: Self::Native, right: Self::Native) -> Self::Native;
    fn mul(left: Self::Native, right: Self::Native) -> Self::Native;
    fn div(left: Self::Native, right: Self::Native) -> Self::Native;
    fn neg(value: Self::Native) -> Self::Native;
    fn abs(value: Self::Native) -> Self::Native;
    /// -0 becomes 0, every NaN the one that sorts above all numbers.
    fn key(value: Self::Native) -> Self::Native;
}

macro_rules! float {
    ($arrow:ty, $native:ty) => {
        impl Float for $arrow {
            #[inline(always)]
            fn wide(value: $native) -> f64 {
                value as f64
            }
            #[inline(always)]
            fn add(left: $native, right: $native) -> $native {
                left + right
            }
            #[inline(always)]
            fn sub(left: $native, right: $native) -> $native {
                left - right
            }
            #[inline(always)]
            fn mul(left: $native, right: $native) -> $native {
                left * right
            }
            #[inline(always)]
            fn div(left: $native, right: $native) -> $native {
                left / right
            }
            #[inline(always)]
            fn neg(value: $native) -> $native {
                -value
            }
            #[inline(always)]
            fn abs(value: $native) -> $native {
                value.abs()
            }
            #[inline(always)]
            fn key(value: $native) -> $native {
                if value.is_nan() { <$native>::NAN } else { value + 0.0 }
            }
        }
    };
}

float!(Float32Type, f32);
float!(Float64Type, f64);

fn float_binary<T: Float>(
    call: &Call,
    compute: impl Fn(T::Native, T::Native) -> T::Native,
    check: impl Fn(f64, f64, f64) -> Option<PgError>,
) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| {
        let (left, right) = (left.get(row), right.get(row));
        let value = compute(left, right);
        let wide = T::wide(value);
        // Only an infinite, undefined or vanished result can be at fault.
        if (!wide.is_finite() || wide == 0.0)
            && let Some(error) = check(T::wide(left), T::wide(right), wide)
        {
            return Err(error);
        }
        Ok(value)
    })
}

fn overflowed(left: f64, right: f64, value: f64) -> Option<PgError> {
    (value.is_infinite() && left.is_finite() && right.is_finite()).then(overflow)
}

pub(crate) fn float_add<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    float_binary::<T>(call, T::add, overflowed)
}

pub(crate) fn float_sub<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    float_binary::<T>(call, T::sub, overflowed)
}

pub(crate) fn float_mul<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    float_binary::<T>(call, T::mul, |left, right, value| {
        let vanished = value == 0.0 && left != 0.0 && right != 0.0;
        overflowed(left, right, value).or_else(|| vanished.then(underflow))
    })
}

pub(crate) fn float_div<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    float_binary::<T>(call, T::div, |left, right, value| {
        if right == 0.0 && !left.is_nan() {
            return Some(division_by_zero());
        }
        let vanished = value == 0.0 && left != 0.0 && !right.is_infinite();
        (value.is_infinite() && left.is_finite()).then(overflow).or_else(|| vanished.then(underflow))
    })
}

pub(crate) fn float_neg<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<T>(0);
    call.map::<T>(|row| Ok(T::neg(values.get(row))))
}

pub(crate) fn float_abs<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<T>(0);
    call.map::<T>(|row| Ok(T::abs(values.get(row))))
}

pub(crate) fn float_key<T: Float>(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.primitive::<T>(0);
    call.map::<T>(|row| Ok(T::key(values.get(row))))
}

pub(crate) fn numeric_add(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| left.get(row).add(&right.get(row)))
}

pub(crate) fn numeric_sub(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| left.get(row).sub(&right.get(row)))
}

pub(crate) fn numeric_mul(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| left.get(row).mul(&right.get(row)))
}

pub(crate) fn numeric_div(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| left.get(row).div(&right.get(row)))
}

pub(crate) fn numeric_div_trunc(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| left.get(row).div_trunc(&right.get(row)))
}

pub(crate) fn numeric_rem(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| left.get(row).rem(&right.get(row)))
}

pub(crate) fn numeric_neg(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.numeric(0);
    call.map_numeric(|row| Ok(values.get(row).neg()))
}

pub(crate) fn numeric_abs(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.numeric(0);
    call.map_numeric(|row| Ok(values.get(row).abs()))
}

/// Any argument as it is: unary plus.
pub(crate) fn identity(call: &Call) -> Result<ArrayRef, PgError> {
    Ok(Arc::clone(call.argument(0).0))
}
