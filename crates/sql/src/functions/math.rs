//! Functions of numbers.

use arrow::array::ArrayRef;
use arrow::datatypes::*;
use repr::numeric::Numeric;
use repr::{PgError, SqlState};

use super::arithmetic::{Integer, out_of_range, overflow, underflow};
use super::kernel::Call;

fn power_error(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

fn logarithm_error(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, message)
}

fn float_unary(call: &Call, compute: impl Fn(f64) -> Result<f64, PgError>) -> Result<ArrayRef, PgError> {
    let values = call.float8(0);
    call.map::<Float64Type>(|row| compute(values.get(row)))
}

/// A result that is infinite or zero although the argument was not is an error.
fn in_range(argument_finite: bool, may_vanish: bool, value: f64) -> Result<f64, PgError> {
    if value.is_infinite() && argument_finite {
        return Err(overflow());
    }
    if value == 0.0 && !may_vanish {
        return Err(underflow());
    }
    Ok(value)
}

pub(crate) fn float_ceil(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| Ok(value.ceil()))
}

pub(crate) fn float_floor(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| Ok(value.floor()))
}

pub(crate) fn float_round(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| Ok(value.round_ties_even()))
}

pub(crate) fn float_trunc(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| Ok(value.trunc()))
}

pub(crate) fn float_sign(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| {
        Ok(if value > 0.0 {
            1.0
        } else if value < 0.0 {
            -1.0
        } else {
            0.0
        })
    })
}

pub(crate) fn float_sqrt(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| match value < 0.0 {
        true => Err(power_error("cannot take square root of a negative number")),
        false => Ok(value.sqrt()),
    })
}

pub(crate) fn float_cbrt(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| Ok(value.cbrt()))
}

pub(crate) fn float_exp(call: &Call) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| in_range(value.is_finite(), value.is_infinite(), value.exp()))
}

fn logarithm(call: &Call, compute: fn(f64) -> f64) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| match value {
        0.0 => Err(logarithm_error("cannot take logarithm of zero")),
        value if value < 0.0 => Err(logarithm_error("cannot take logarithm of a negative number")),
        value => Ok(compute(value)),
    })
}

pub(crate) fn float_ln(call: &Call) -> Result<ArrayRef, PgError> {
    logarithm(call, f64::ln)
}

pub(crate) fn float_log10(call: &Call) -> Result<ArrayRef, PgError> {
    logarithm(call, f64::log10)
}

pub(crate) fn float_power(call: &Call) -> Result<ArrayRef, PgError> {
    let (bases, exponents) = (call.float8(0), call.float8(1));
    call.map::<Float64Type>(|row| {
        let (base, exponent) = (bases.get(row), exponents.get(row));
        if base == 0.0 && exponent < 0.0 {
            return Err(power_error("zero raised to a negative power is undefined"));
        }
        if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
            return Err(power_error("a negative number raised to a non-integer power yields a complex result"));
        }
        let value = base.powf(exponent);
        let finite = base.is_finite() && exponent.is_finite();
        in_range(finite, !finite || base == 0.0, value)
    })
}

macro_rules! float_functions {
    ($($name:ident $compute:expr;)*) => {
        $(
            pub(crate) fn $name(call: &Call) -> Result<ArrayRef, PgError> {
                let compute: fn(f64) -> f64 = $compute;
                float_unary(call, |value| Ok(compute(value)))
            }
        )*
    };
}

float_functions! {
    degrees f64::to_degrees;
    radians f64::to_radians;
    sinh f64::sinh;
    cosh f64::cosh;
    tanh f64::tanh;
    asinh f64::asinh;
    atan f64::atan;
}

fn domain(call: &Call, valid: fn(f64) -> bool, compute: fn(f64) -> f64) -> Result<ArrayRef, PgError> {
    float_unary(call, |value| match value.is_nan() || valid(value) {
        true => Ok(compute(value)),
        false => Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")),
    })
}

pub(crate) fn sin(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, f64::is_finite, f64::sin)
}

pub(crate) fn cos(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, f64::is_finite, f64::cos)
}

pub(crate) fn tan(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, f64::is_finite, f64::tan)
}

pub(crate) fn cot(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, f64::is_finite, |value| 1.0 / value.tan())
}

pub(crate) fn asin(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, |value| value.abs() <= 1.0, f64::asin)
}

pub(crate) fn acos(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, |value| value.abs() <= 1.0, f64::acos)
}

pub(crate) fn acosh(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, |value| value >= 1.0, f64::acosh)
}

pub(crate) fn atanh(call: &Call) -> Result<ArrayRef, PgError> {
    domain(call, |value| value.abs() <= 1.0, f64::atanh)
}

pub(crate) fn atan2(call: &Call) -> Result<ArrayRef, PgError> {
    let (y, x) = (call.float8(0), call.float8(1));
    call.map::<Float64Type>(|row| Ok(y.get(row).atan2(x.get(row))))
}

pub(crate) fn pi(call: &Call) -> Result<ArrayRef, PgError> {
    call.map::<Float64Type>(|_| Ok(std::f64::consts::PI))
}

fn numeric_unary(call: &Call, compute: impl Fn(Numeric) -> Result<Numeric, PgError>) -> Result<ArrayRef, PgError> {
    let values = call.numeric(0);
    call.map_numeric(|row| compute(values.get(row)))
}

pub(crate) fn numeric_ceil(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| Ok(value.ceil()))
}

pub(crate) fn numeric_floor(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| Ok(value.floor()))
}

pub(crate) fn numeric_round(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| Ok(value.round(0)))
}

pub(crate) fn numeric_trunc(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| Ok(value.trunc(0)))
}

pub(crate) fn numeric_sign(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| Ok(value.signum()))
}

pub(crate) fn numeric_sqrt(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| value.sqrt())
}

pub(crate) fn numeric_exp(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| value.exp())
}

pub(crate) fn numeric_ln(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| value.ln())
}

pub(crate) fn numeric_log10(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| value.log10())
}

pub(crate) fn numeric_trim_scale(call: &Call) -> Result<ArrayRef, PgError> {
    numeric_unary(call, |value| Ok(value.trim_scale()))
}

pub(crate) fn numeric_log(call: &Call) -> Result<ArrayRef, PgError> {
    let (bases, values) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| bases.get(row).log(&values.get(row)))
}

pub(crate) fn numeric_power(call: &Call) -> Result<ArrayRef, PgError> {
    let (bases, exponents) = (call.numeric(0), call.numeric(1));
    call.map_numeric(|row| bases.get(row).power(&exponents.get(row)))
}

/// The places asked of round() and trunc(), as far as PostgreSQL goes.
fn places(value: i32) -> i64 {
    value.clamp(-2000, 2000) as i64
}

pub(crate) fn numeric_round_to(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, digits) = (call.numeric(0), call.int4(1));
    call.map_numeric(|row| Ok(values.get(row).round(places(digits.get(row)))))
}

pub(crate) fn numeric_trunc_to(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, digits) = (call.numeric(0), call.int4(1));
    call.map_numeric(|row| Ok(values.get(row).trunc(places(digits.get(row)))))
}

pub(crate) fn numeric_scale(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.numeric(0);
    call.map_nullable::<Int32Type>(|row| Ok(values.get(row).decimal().map(|decimal| decimal.scale() as i32)))
}

pub(crate) fn width_bucket_float(call: &Call) -> Result<ArrayRef, PgError> {
    let (operands, lows, highs, counts) = (call.float8(0), call.float8(1), call.float8(2), call.int4(3));
    let invalid = |message: &str| PgError::new(SqlState("2201G"), message);
    call.map::<Int32Type>(|row| {
        let (operand, low, high, count) = (operands.get(row), lows.get(row), highs.get(row), counts.get(row));
        if count <= 0 {
            return Err(invalid("count must be greater than zero"));
        }
        if operand.is_nan() || low.is_nan() || high.is_nan() {
            return Err(invalid("operand, lower bound, and upper bound cannot be NaN"));
        }
        if !low.is_finite() || !high.is_finite() {
            return Err(invalid("lower and upper bounds must be finite"));
        }
        if low == high {
            return Err(invalid("lower bound cannot equal upper bound"));
        }
        let position = if low < high { (operand - low) / (high - low) } else { (low - operand) / (low - high) };
        match position {
            position if position < 0.0 => Ok(0),
            position if position >= 1.0 => count.checked_add(1).ok_or_else(|| out_of_range("integer")),
            position => Ok(((position * count as f64) as i32 + 1).min(count)),
        }
    })
}

fn gcd_of(mut left: i64, mut right: i64) -> u64 {
    while right != 0 {
        (left, right) = (right, left.wrapping_rem(right));
    }
    left.unsigned_abs()
}

pub(crate) fn gcd<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| from_unsigned::<T>(gcd_of(T::bits(left.get(row)), T::bits(right.get(row)))))
}

pub(crate) fn lcm<T: Integer>(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.primitive::<T>(0), call.primitive::<T>(1));
    call.map::<T>(|row| {
        let (left, right) = (T::bits(left.get(row)), T::bits(right.get(row)));
        if left == 0 || right == 0 {
            return Ok(T::from_bits(0));
        }
        let divided = left.unsigned_abs() / gcd_of(left, right);
        from_unsigned::<T>(divided.checked_mul(right.unsigned_abs()).ok_or_else(|| out_of_range(T::NAME))?)
    })
}

fn from_unsigned<T: Integer>(value: u64) -> Result<T::Native, PgError> {
    let signed = i64::try_from(value).map_err(|_| out_of_range(T::NAME))?;
    let narrow = T::from_bits(signed);
    if T::bits(narrow) == signed { Ok(narrow) } else { Err(out_of_range(T::NAME)) }
}

pub(crate) fn factorial(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.int8(0);
    call.map_numeric(|row| {
        let value = values.get(row);
        if value < 0 {
            return Err(PgError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "factorial of a negative number is undefined",
            ));
        }
        if value > 32_177 {
            return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format"));
        }
        (2..=value).try_fold(Numeric::from_i64(1), |product, factor| product.mul(&Numeric::from_i64(factor)))
    })
}
