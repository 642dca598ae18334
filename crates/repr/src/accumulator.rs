//! Aggregates as sums: exact, linear accumulators on lanes of `i128`.
//!
//! Each row contributes a fixed number of integers; a group's state is the sum of its rows' contributions, a row taken away
//! is its contribution times -1, and the answer is computed from the sums alone. So the same code serves dataflows, where
//! the state is a difference, and one-shot aggregation, in any order and with the same answer to the last bit.
//!
//! ```text
//! count              rows
//! sum, avg int       values rows | sum
//! bool_and, bool_or  values rows | false (or true) rows
//! variances of int   values rows | sum | the squares' sum: low 64 bits | and what is above them
//! sum, avg interval  values rows | months | days | microseconds
//! sum, avg float     tally | the sum in digits of 2^90, the lowest first      (5 lanes for real, 24 for double)
//! sum, avg decimal   tally | the coefficients' sum                            (numeric of a known scale up to 27 digits)
//! sum, avg numeric   tally | beyond | 5 lanes: the sum in digits of 10^27, two of them fraction | 8 lanes: rows by scale
//! ```
//! A tally counts values, NaNs and both infinities in four fields of one lane. Headroom: 2^37 rows a group at least.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use num_bigint::{BigInt, Sign};

use crate::numeric::{Numeric, Spread};
use crate::text::interval::Interval;
use crate::{PgError, SqlState};

/// One aggregate function over one type of argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accumulator {
    function: Function,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Count,
    Sum,
    Avg,
    BoolAnd,
    BoolOr,
    Spread(Spread),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Counts rows of any type; the argument is None for `count(*)`.
    Any,
    Bool,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Interval,
    Numeric,
    /// `Decimal128` of this scale, standing for numeric with that fixed scale. [`DECIMAL_NAN`] is NaN.
    Decimal(u8),
}

/// What stands for NaN in a `Decimal128` that carries a numeric of fixed scale.
pub const DECIMAL_NAN: i128 = i128::MIN;
/// Most digits of a numeric that `Decimal128` may carry into [`Accumulator`], so that sums cannot overflow.
pub const DECIMAL_PRECISION_MAX: u8 = 27;

/// Bits of a float lane's digit.
const FLOAT_DIGIT_BITS: u32 = 90;
/// The weight of the lowest bit of the float lanes, as a power of two.
const FLOAT64_LOWEST: i32 = -1074;
const FLOAT32_LOWEST: i32 = -149;
const FLOAT64_LANES: usize = 24;
const FLOAT32_LANES: usize = 4;

/// The base of a numeric lane's digit is 10 to this power.
const NUMERIC_DIGIT: u32 = 27;
const NUMERIC_FRACTION_LANES: usize = 2;
const NUMERIC_VALUE_LANES: usize = 5;
const NUMERIC_SCALE_MAX: u32 = NUMERIC_DIGIT * NUMERIC_FRACTION_LANES as u32;
/// Rows are counted by scale up to this one, and together beyond it.
const TALLIED_SCALE_MAX: usize = 23;
const SCALE_LANES: usize = (TALLIED_SCALE_MAX + 1) / SCALES_IN_LANE;
const SCALES_IN_LANE: usize = 3;
const SCALE_BITS: u32 = 42;
const NUMERIC_BASE: i128 = 10i128.pow(NUMERIC_DIGIT);

/// Field widths of a tally: values, NaNs, infinities, negative infinities.
const TALLY_BITS: [u32; 4] = [44, 28, 28, 28];
const TALLY_VALUE: i128 = 1;
const TALLY_NAN: i128 = 1 << TALLY_BITS[0];
const TALLY_INFINITY: i128 = TALLY_NAN << TALLY_BITS[1];
const TALLY_NEGATIVE_INFINITY: i128 = TALLY_INFINITY << TALLY_BITS[2];

/// Splits the sum of packed counters; every one of them is the sum of small signed contributions.
fn unpack<const N: usize>(mut packed: i128, bits: [u32; N]) -> [i64; N] {
    bits.map(|width| {
        let shift = 128 - width;
        let field = (packed << shift) >> shift;
        // What a negative field borrowed from its neighbour is given back.
        packed = packed.wrapping_sub(field) >> width;
        field as i64
    })
}

struct Tally {
    values: i64,
    nan: i64,
    infinity: i64,
    negative_infinity: i64,
}

impl Tally {
    fn of(lane: i128) -> Tally {
        let [values, nan, infinity, negative_infinity] = unpack(lane, TALLY_BITS);
        Tally { values, nan, infinity, negative_infinity }
    }

    /// The answer where a special value decides it: NaN, or an infinity's sign.
    fn special(&self) -> Option<f64> {
        if self.nan > 0 || (self.infinity > 0 && self.negative_infinity > 0) {
            Some(f64::NAN)
        } else if self.infinity > 0 {
            Some(f64::INFINITY)
        } else if self.negative_infinity > 0 {
            Some(f64::NEG_INFINITY)
        } else {
            None
        }
    }
}

fn special_numeric(value: f64) -> Numeric {
    if value.is_nan() {
        Numeric::NaN
    } else if value > 0.0 {
        Numeric::Infinity
    } else {
        Numeric::NegativeInfinity
    }
}

fn out_of_range(type_name: &str) -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
}

impl Accumulator {
    /// The accumulator of `count`, `sum`, `avg`, `bool_and`, `bool_or` (or `every`), and of integers the variances and
    /// standard deviations, over an argument of this Arrow type; None is `count(*)`. Error `42883` for anything else.
    pub fn new(function: &str, argument: Option<&DataType>) -> Result<Accumulator, PgError> {
        let unknown = || {
            let argument = argument.map(|argument| argument.to_string()).unwrap_or_else(|| "*".to_string());
            PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {function}({argument}) does not exist"))
        };
        let function = match function {
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "bool_and" | "every" => Function::BoolAnd,
            "bool_or" => Function::BoolOr,
            name => Function::Spread(Spread::named(name).ok_or_else(unknown)?),
        };
        let kind = match (function, argument.ok_or_else(unknown)) {
            (Function::Count, _) => Kind::Any,
            (Function::BoolAnd | Function::BoolOr, Ok(DataType::Boolean)) => Kind::Bool,
            (Function::Sum | Function::Avg, Ok(argument)) => match argument {
                DataType::Int16 => Kind::Int16,
                DataType::Int32 => Kind::Int32,
                DataType::Int64 => Kind::Int64,
                DataType::Float32 => Kind::Float32,
                DataType::Float64 => Kind::Float64,
                DataType::LargeBinary => Kind::Numeric,
                DataType::Interval(IntervalUnit::MonthDayNano) => Kind::Interval,
                DataType::Decimal128(_, scale) if *scale >= 0 => Kind::Decimal(*scale as u8),
                _ => return Err(unknown()),
            },
            (Function::Spread(_), Ok(DataType::Int16)) => Kind::Int16,
            (Function::Spread(_), Ok(DataType::Int32)) => Kind::Int32,
            (Function::Spread(_), Ok(DataType::Int64)) => Kind::Int64,
            _ => return Err(unknown()),
        };
        Ok(Accumulator { function, kind })
    }

    /// Lanes a row or a group takes.
    pub fn lane_count(&self) -> usize {
        if let Function::Spread(_) = self.function {
            return 4;
        }
        match self.kind {
            Kind::Any => 1,
            Kind::Bool | Kind::Int16 | Kind::Int32 | Kind::Int64 | Kind::Decimal(_) => 2,
            Kind::Interval => 4,
            Kind::Float32 => 1 + FLOAT32_LANES,
            Kind::Float64 => 1 + FLOAT64_LANES,
            Kind::Numeric => 2 + NUMERIC_VALUE_LANES + SCALE_LANES,
        }
    }

    /// The Arrow type of the answer.
    pub fn output_type(&self) -> DataType {
        match (self.function, &self.kind) {
            (Function::Count, _) => DataType::Int64,
            (Function::BoolAnd | Function::BoolOr, _) => DataType::Boolean,
            (_, Kind::Interval) => DataType::Interval(IntervalUnit::MonthDayNano),
            (Function::Sum, Kind::Int16 | Kind::Int32) => DataType::Int64,
            (Function::Sum, Kind::Float32) => DataType::Float32,
            (_, Kind::Float32 | Kind::Float64) => DataType::Float64,
            _ => DataType::LargeBinary,
        }
    }

    /// Writes each row's contribution for one copy of it: row `r`'s lanes start at `lanes[r * stride + offset]`, and all of
    /// them are written. Rows where `filter` is not true, and NULL arguments, contribute zeros.
    ///
    /// `argument` has the type this accumulator was made for and `row_count` rows.
    pub fn contributions(
        &self,
        argument: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        row_count: usize,
        lanes: &mut [i128],
        stride: usize,
        offset: usize,
    ) {
        let nulls = argument.and_then(|argument| argument.logical_nulls()).filter(|nulls| nulls.null_count() > 0);
        let counts = |row: usize| {
            nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
                && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
        };
        let lane_count = self.lane_count();
        let mut each = |contribute: &mut dyn FnMut(usize, &mut [i128])| {
            for row in 0..row_count {
                let slot = &mut lanes[row * stride + offset..][..lane_count];
                slot.fill(0);
                if counts(row) {
                    contribute(row, slot);
                }
            }
        };
        let Some(argument) = argument else {
            return each(&mut |_, slot| slot[0] = 1);
        };
        match self.kind {
            Kind::Any => each(&mut |_, slot| slot[0] = 1),
            Kind::Bool => {
                let values = argument.as_boolean();
                let counted = self.function == Function::BoolOr;
                each(&mut |row, slot| {
                    slot[0] = 1;
                    slot[1] = (values.value(row) == counted) as i128;
                });
            }
            Kind::Int16 => integers(argument.as_primitive::<Int16Type>().values(), each),
            Kind::Int32 => integers(argument.as_primitive::<Int32Type>().values(), each),
            Kind::Int64 => integers(argument.as_primitive::<Int64Type>().values(), each),
            Kind::Float32 => {
                let values = argument.as_primitive::<Float32Type>().values();
                each(&mut |row, slot| float_contribution(values[row] as f64, FLOAT32_LOWEST, slot));
            }
            Kind::Float64 => {
                let values = argument.as_primitive::<Float64Type>().values();
                each(&mut |row, slot| float_contribution(values[row], FLOAT64_LOWEST, slot));
            }
            Kind::Interval => {
                let values = argument.as_primitive::<IntervalMonthDayNanoType>().values();
                each(&mut |row, slot| {
                    let interval = Interval::from_arrow(values[row]);
                    slot.copy_from_slice(&[1, interval.months as i128, interval.days as i128, interval.micros as i128]);
                });
            }
            Kind::Decimal(_) => {
                let values = argument.as_primitive::<Decimal128Type>().values();
                each(&mut |row, slot| match values[row] {
                    DECIMAL_NAN => slot[0] = TALLY_NAN,
                    value => (slot[0], slot[1]) = (TALLY_VALUE, value),
                });
            }
            Kind::Numeric => {
                let values = argument.as_binary::<i64>();
                each(&mut |row, slot| numeric_contribution(&Numeric::decode(values.value(row)), slot));
            }
        }
    }

    /// The answers of `group_count` groups from their summed lanes (laid out as in [`Accumulator::contributions`]), with the
    /// groups that have none, and why; such a group is NULL in the array.
    pub fn finish(
        &self,
        lanes: &[i128],
        stride: usize,
        offset: usize,
        group_count: usize,
    ) -> (ArrayRef, Vec<(usize, PgError)>) {
        let groups = (0..group_count).map(|group| &lanes[group * stride + offset..][..self.lane_count()]);
        let mut errors = Vec::new();
        let array: ArrayRef = match (self.function, &self.kind) {
            (Function::Count, _) => Arc::new(Int64Array::from_iter_values(groups.map(|lanes| lanes[0] as i64))),
            (Function::BoolAnd, _) => {
                Arc::new(groups.map(|lanes| (lanes[0] > 0).then_some(lanes[1] == 0)).collect::<BooleanArray>())
            }
            (Function::BoolOr, _) => {
                Arc::new(groups.map(|lanes| (lanes[0] > 0).then_some(lanes[1] > 0)).collect::<BooleanArray>())
            }
            (Function::Sum, Kind::Int16 | Kind::Int32) => Arc::new(
                groups
                    .enumerate()
                    .map(|(group, lanes)| match i64::try_from(lanes[1]) {
                        _ if lanes[0] <= 0 => None,
                        Ok(sum) => Some(sum),
                        Err(_) => failed(&mut errors, group, out_of_range("bigint")),
                    })
                    .collect::<Int64Array>(),
            ),
            (function, Kind::Interval) => {
                let values: Vec<Option<IntervalMonthDayNano>> = groups
                    .enumerate()
                    .map(|(group, lanes)| match finish_interval(lanes, function == Function::Avg) {
                        Ok(value) => value,
                        Err(error) => failed(&mut errors, group, error),
                    })
                    .collect();
                Arc::new(IntervalMonthDayNanoArray::from(values))
            }
            (Function::Sum, Kind::Float32) => {
                let values = groups.enumerate().map(|(group, lanes)| match finish_float(lanes, FLOAT32_LOWEST) {
                    (Some(sum), _) if sum.is_finite() && (sum as f32).is_infinite() => {
                        failed(&mut errors, group, float_overflow())
                    }
                    (sum, _) => sum.map(|sum| sum as f32),
                });
                Arc::new(values.collect::<Float32Array>())
            }
            (function, Kind::Float32 | Kind::Float64) => {
                let lowest = if self.kind == Kind::Float32 { FLOAT32_LOWEST } else { FLOAT64_LOWEST };
                let values = groups.enumerate().map(|(group, lanes)| {
                    let special = Tally::of(lanes[0]).special().is_some();
                    match finish_float(lanes, lowest) {
                        (Some(sum), _) if sum.is_infinite() && !special => failed(&mut errors, group, float_overflow()),
                        (Some(sum), count) if function == Function::Avg => Some(sum / count as f64),
                        (sum, _) => sum,
                    }
                });
                Arc::new(values.collect::<Float64Array>())
            }
            (function, kind) => {
                let mut builder = LargeBinaryBuilder::with_capacity(group_count, group_count * 12);
                let mut scratch = Vec::with_capacity(32);
                for (group, lanes) in groups.enumerate() {
                    if let Function::Spread(spread) = function {
                        let squares = (BigInt::from(lanes[3]) << 64) + lanes[2];
                        let squares = Numeric::from_big_parts(squares, 0);
                        match spread.of(lanes[0] as i64, &Numeric::from_i128(lanes[1]), &squares) {
                            Ok(value) => builder.append_option(value.map(|value| value.encode())),
                            Err(error) => {
                                errors.push((group, error));
                                builder.append_null();
                            }
                        }
                        continue;
                    }
                    let answer = match kind {
                        Kind::Decimal(scale) => finish_decimal(lanes, *scale as u16),
                        Kind::Numeric => finish_numeric(lanes),
                        // Integers.
                        _ => Ok((lanes[0] > 0).then(|| (Numeric::from_i128(lanes[1]), lanes[0] as i64))),
                    };
                    let answer = answer.and_then(|answer| match answer {
                        Some((sum, count)) if function == Function::Avg => sum.div(&Numeric::from_i64(count)).map(Some),
                        answer => Ok(answer.map(|(sum, _)| sum)),
                    });
                    match answer {
                        Ok(Some(value)) => {
                            scratch.clear();
                            value.encode_into(&mut scratch);
                            builder.append_value(&scratch);
                        }
                        Ok(None) => builder.append_null(),
                        Err(error) => {
                            errors.push((group, error));
                            builder.append_null();
                        }
                    }
                }
                Arc::new(builder.finish())
            }
        };
        (array, errors)
    }
}

/// Notes a group's error and leaves the group without an answer.
fn failed<T>(errors: &mut Vec<(usize, PgError)>, group: usize, error: PgError) -> Option<T> {
    errors.push((group, error));
    None
}

fn float_overflow() -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

fn integers<T: Copy + Into<i128>>(values: &[T], mut each: impl FnMut(&mut dyn FnMut(usize, &mut [i128]))) {
    each(&mut |row, slot| {
        let value: i128 = values[row].into();
        (slot[0], slot[1]) = (1, value);
        if let [_, _, low, high] = slot {
            let square = value * value;
            (*low, *high) = (square & u64::MAX as i128, square >> 64);
        }
    });
}

/// Spreads the 53 bits of a double over the one or two lanes they fall into.
fn float_contribution(value: f64, lowest: i32, slot: &mut [i128]) {
    if !value.is_finite() {
        slot[0] = match value {
            value if value.is_nan() => TALLY_NAN,
            value if value > 0.0 => TALLY_INFINITY,
            _ => TALLY_NEGATIVE_INFINITY,
        };
        return;
    }
    slot[0] = TALLY_VALUE;
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7FF) as i32;
    let fraction = bits & ((1 << 52) - 1);
    let (mut mantissa, mut position) = match exponent {
        0 => (fraction, -1074 - lowest),
        exponent => (fraction | 1 << 52, exponent - 1075 - lowest),
    };
    if mantissa == 0 {
        return;
    }
    if position < 0 {
        // A real's low bits as a double are zeros.
        mantissa >>= -position;
        position = 0;
    }
    let lane = 1 + position as usize / FLOAT_DIGIT_BITS as usize;
    let shift = position as u32 % FLOAT_DIGIT_BITS;
    let shifted = (mantissa as u128) << shift.min(74);
    // 53 bits moved by at most 74 fit 127; what a larger move would lose goes the long way round.
    let (low, high) = if shift <= 74 {
        (shifted & ((1 << FLOAT_DIGIT_BITS) - 1), shifted >> FLOAT_DIGIT_BITS)
    } else {
        let low_bits = FLOAT_DIGIT_BITS - shift;
        let low = (mantissa as u128 & ((1 << low_bits) - 1)) << shift;
        (low, (mantissa >> low_bits) as u128)
    };
    let sign = if value < 0.0 { -1 } else { 1 };
    slot[lane] = sign * low as i128;
    if high != 0 {
        slot[lane + 1] = sign * high as i128;
    }
}

/// The sum and how many values it is of; None if there is none.
fn finish_float(lanes: &[i128], lowest: i32) -> (Option<f64>, i64) {
    let tally = Tally::of(lanes[0]);
    let count = tally.values + tally.nan + tally.infinity + tally.negative_infinity;
    if count <= 0 {
        return (None, 0);
    }
    if let Some(special) = tally.special() {
        return (Some(special), count);
    }
    // Carry upwards so that every digit but the last is within its 90 bits, then round once, from exact integers.
    let mut digits = [0i128; FLOAT64_LANES + 1];
    let mut carry = 0i128;
    let top = lanes.len() - 1;
    for index in 0..top {
        let value = lanes[index + 1].wrapping_add(carry);
        carry = value >> FLOAT_DIGIT_BITS;
        digits[index] = value & ((1 << FLOAT_DIGIT_BITS) - 1);
    }
    digits[top] = carry;
    if digits[..=top].iter().all(|digit| *digit == 0) {
        return (Some(0.0), count);
    }
    let mut total = BigInt::from(0);
    for digit in digits[..=top].iter().rev() {
        total = (total << FLOAT_DIGIT_BITS) + digit;
    }
    (Some(scaled_to_f64(&total, lowest)), count)
}

/// `value * 2^exponent`, rounded half to even.
fn scaled_to_f64(value: &BigInt, exponent: i32) -> f64 {
    let magnitude = value.magnitude();
    let bits = magnitude.bits() as i64;
    // Keep 64 bits and note whether anything was cut, then let the hardware round to 53.
    let keep = 64;
    let drop = (bits - keep).max(0);
    // Below the normal range fewer bits fit: cut down to the lowest bit there is.
    let shifted = magnitude >> drop as u64;
    let sticky = drop > 0 && (magnitude.trailing_zeros().unwrap_or(0) as i64) < drop;
    let mut word = shifted.to_u64_digits().first().copied().unwrap_or(0);
    if sticky {
        word |= 1;
    }
    let exponent = exponent as i64 + drop;
    // The lowest bit of any sum is at least the lowest bit of doubles, so scaling a word of at most 53 bits is exact and a
    // longer one is in the normal range.
    let result = scale_by_power(word as f64, exponent);
    if value.sign() == Sign::Minus { -result } else { result }
}

fn scale_by_power(mut value: f64, mut exponent: i64) -> f64 {
    while exponent > 1000 {
        value *= 2f64.powi(1000);
        exponent -= 1000;
    }
    while exponent < -1000 {
        value *= 2f64.powi(-1000);
        exponent += 1000;
    }
    value * 2f64.powi(exponent as i32)
}

fn finish_interval(lanes: &[i128], average: bool) -> Result<Option<IntervalMonthDayNano>, PgError> {
    if lanes[0] <= 0 {
        return Ok(None);
    }
    let sum = Interval::from_wide(lanes[1], lanes[2], lanes[3])?;
    let value = if average { sum.divide(lanes[0] as f64)? } else { sum };
    value.to_arrow().map(Some)
}

type NumericAnswer = Result<Option<(Numeric, i64)>, PgError>;

fn finish_decimal(lanes: &[i128], scale: u16) -> NumericAnswer {
    let tally = Tally::of(lanes[0]);
    let count = tally.values + tally.nan;
    if count <= 0 {
        return Ok(None);
    }
    if tally.nan > 0 {
        return Ok(Some((Numeric::NaN, count)));
    }
    Ok(Some((Numeric::from_parts(lanes[1], scale), count)))
}

fn numeric_contribution(value: &Numeric, slot: &mut [i128]) {
    let decimal = match value {
        Numeric::NaN => return slot[0] = TALLY_NAN,
        Numeric::Infinity => return slot[0] = TALLY_INFINITY,
        Numeric::NegativeInfinity => return slot[0] = TALLY_NEGATIVE_INFINITY,
        Numeric::Finite(decimal) => decimal,
    };
    slot[0] = TALLY_VALUE;
    let scale = decimal.scale() as u32;
    let values = 2;
    match decimal.coefficient_i128() {
        // Within 10^27 units of a fraction of one lane: the usual case, without big integers.
        Some(coefficient) if scale <= NUMERIC_DIGIT => {
            let unit = 10i128.pow(scale);
            let (integer, fraction) = (coefficient / unit, coefficient % unit);
            slot[values + 1] = fraction * 10i128.pow(NUMERIC_DIGIT - scale);
            slot[values + 2] = integer % NUMERIC_BASE;
            slot[values + 3] = integer / NUMERIC_BASE;
        }
        _ => {
            if scale > NUMERIC_SCALE_MAX || !spread_digits(value, &mut slot[values..values + NUMERIC_VALUE_LANES]) {
                slot[1] = 1;
                return;
            }
        }
    }
    let index = (scale as usize).min(TALLIED_SCALE_MAX);
    let lane = values + NUMERIC_VALUE_LANES + index / SCALES_IN_LANE;
    slot[lane] = 1 << (SCALE_BITS * (index % SCALES_IN_LANE) as u32);
}

/// Writes the digits of base 10^27, or answers false where there are too many.
fn spread_digits(value: &Numeric, slot: &mut [i128]) -> bool {
    let Numeric::Finite(_) = value else { return false };
    let text = value.round(NUMERIC_SCALE_MAX as i64).abs().to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    let width = NUMERIC_DIGIT as usize;
    if digits.len() > width * NUMERIC_VALUE_LANES {
        return false;
    }
    let mut end = digits.len();
    for lane in slot.iter_mut() {
        let start = end.saturating_sub(width);
        let digit: i128 = digits[start..end].parse().unwrap_or(0);
        *lane = if value.is_negative() { -digit } else { digit };
        end = start;
    }
    true
}

fn finish_numeric(lanes: &[i128]) -> NumericAnswer {
    let tally = Tally::of(lanes[0]);
    let count = tally.values + tally.nan + tally.infinity + tally.negative_infinity;
    if count <= 0 {
        return Ok(None);
    }
    if let Some(special) = tally.special() {
        return Ok(Some((special_numeric(special), count)));
    }
    if lanes[1] != 0 {
        return Err(PgError::unsupported(format!(
            "summing a numeric of more than {} digits before or {NUMERIC_SCALE_MAX} after the point",
            NUMERIC_DIGIT as usize * (NUMERIC_VALUE_LANES - NUMERIC_FRACTION_LANES)
        )));
    }
    let (values, scales) = lanes[2..].split_at(NUMERIC_VALUE_LANES);
    let mut scale = 0;
    for (lane, packed) in scales.iter().enumerate() {
        for (index, rows) in unpack(*packed, [SCALE_BITS; SCALES_IN_LANE]).into_iter().enumerate() {
            if rows > 0 {
                scale = lane * SCALES_IN_LANE + index;
            }
        }
    }
    let sum = match values {
        [0, fraction, integer, 0, 0] if scale < TALLIED_SCALE_MAX => {
            let unit = 10i128.pow(scale as u32);
            let fraction = fraction / 10i128.pow(NUMERIC_DIGIT - scale as u32);
            match integer.checked_mul(unit).and_then(|value| value.checked_add(fraction)) {
                Some(coefficient) => Numeric::from_parts(coefficient, scale as u16),
                None => wide_sum(values, scale),
            }
        }
        values => wide_sum(values, scale),
    };
    Ok(Some((sum, count)))
}

fn wide_sum(values: &[i128], scale: usize) -> Numeric {
    let base = BigInt::from(NUMERIC_BASE);
    let total = values.iter().rev().fold(BigInt::from(0), |total, digit| total * &base + digit);
    let sum = Numeric::from_big_parts(total, NUMERIC_SCALE_MAX as u16);
    let shown = if scale < TALLIED_SCALE_MAX {
        scale
    } else {
        // Beyond the scales that are told apart, as many digits as the sum needs.
        let needed = match sum.trim_scale() {
            Numeric::Finite(decimal) => decimal.scale() as usize,
            _ => 0,
        };
        needed.max(scale)
    };
    sum.round(shown as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SqlType;

    /// The answer over `values`, where those with `true` are added twice and taken away once.
    fn answer(function: &str, sql_type: SqlType, values: &[Option<&str>]) -> String {
        let column = crate::text::parse_column(&sql_type, -1, values.iter().copied()).unwrap();
        finish(function, &column, values.len())
    }

    fn finish(function: &str, column: &ArrayRef, row_count: usize) -> String {
        let accumulator = Accumulator::new(function, Some(column.data_type())).unwrap();
        let width = accumulator.lane_count();
        let mut rows = vec![7i128; row_count * (width + 1)];
        accumulator.contributions(Some(column), None, row_count, &mut rows, width + 1, 1);
        let mut state = vec![0i128; width];
        for round in [1i128, 1, -1] {
            for row in 0..row_count {
                for lane in 0..width {
                    state[lane] = state[lane].wrapping_add(round.wrapping_mul(rows[row * (width + 1) + 1 + lane]));
                }
            }
        }
        let (array, errors) = accumulator.finish(&state, width, 0, 1);
        if let Some((_, error)) = errors.first() {
            return error.message.clone();
        }
        if array.is_null(0) {
            return "null".to_string();
        }
        let sql_type = match accumulator.output_type() {
            DataType::Int64 => SqlType::Int8,
            DataType::Boolean => SqlType::Bool,
            DataType::Float32 => SqlType::Float4,
            DataType::Float64 => SqlType::Float8,
            DataType::LargeBinary => SqlType::Numeric,
            _ => SqlType::Interval,
        };
        let mut out = String::new();
        crate::text::format_value(&array, 0, &sql_type, &mut out);
        out
    }

    #[test]
    fn answers_are_postgres_answers() {
        use SqlType::*;
        for (function, sql_type, values, expected) in [
            ("count", Text, &[Some("a"), None, Some("b")][..], "2"),
            ("count", Int4, &[None], "0"),
            ("sum", Int4, &[None], "null"),
            ("sum", Int4, &[Some("2147483647"), Some("2147483647"), None], "4294967294"),
            ("sum", Int8, &[Some("9223372036854775807"), Some("1")], "9223372036854775808"),
            ("avg", Int4, &[Some("1"), Some("2")], "1.5000000000000000"),
            ("avg", Int8, &[Some("1"), Some("1"), Some("2")], "1.3333333333333333"),
            ("sum", Float8, &[Some("0.1"), Some("0.2"), Some("1e300"), Some("-1e300")], "0.30000000000000004"),
            ("sum", Float8, &[Some("5e-324"), Some("5e-324")], "1e-323"),
            ("sum", Float8, &[Some("1e308"), Some("1e308")], "value out of range: overflow"),
            ("sum", Float8, &[Some("inf"), Some("1")], "Infinity"),
            ("sum", Float8, &[Some("inf"), Some("-inf")], "NaN"),
            ("avg", Float8, &[Some("1"), Some("2")], "1.5"),
            ("sum", Float4, &[Some("0.1"), Some("0.2")], "0.3"),
            ("avg", Float4, &[Some("0.5"), Some("-1.5")], "-0.5"),
            ("sum", Numeric, &[Some("1.10"), Some("2.205"), Some("-3")], "0.305"),
            ("sum", Numeric, &[Some("1e40"), Some("0.1")], "10000000000000000000000000000000000000000.1"),
            ("sum", Numeric, &[Some("-1e30"), Some("1e30"), Some("0.00")], "0.00"),
            ("sum", Numeric, &[Some("NaN"), Some("1")], "NaN"),
            ("sum", Numeric, &[Some("-Infinity"), Some("1")], "-Infinity"),
            (
                "sum",
                Numeric,
                &[Some("0.123456789012345678901234567891"), Some("1")],
                "1.123456789012345678901234567891",
            ),
            ("avg", Numeric, &[Some("1.0"), Some("2.0"), Some("2.0")], "1.6666666666666667"),
            ("bool_and", Bool, &[Some("t"), None, Some("f")], "f"),
            ("bool_or", Bool, &[Some("f"), None], "f"),
            ("bool_or", Bool, &[None], "null"),
            ("sum", Interval, &[Some("1 day"), Some("2 hours")], "1 day 02:00:00"),
            ("avg", Interval, &[Some("1 day"), Some("2 days")], "1 day 12:00:00"),
        ] {
            assert_eq!(answer(function, sql_type.clone(), values), expected, "{function}({sql_type:?}) of {values:?}");
        }
        assert!(answer("sum", Numeric, &[Some("1e100")]).ends_with("is not supported"));
    }

    #[test]
    fn float_sums_are_exact_in_any_order() {
        // Powers of two from one end of the range to the other, at every offset within a lane.
        let mut values: Vec<f64> = (-1074..970).map(|power| scale_by_power(1.0, power)).collect();
        values.extend(values.clone().iter().map(|value| -value));
        values.push(1.25);
        let column: ArrayRef = Arc::new(Float64Array::from(values.clone()));
        assert_eq!(finish("sum", &column, values.len()), "1.25");
        let many: Vec<f64> = (0..1000).map(|index| 1.0 / (index as f64 + 3.0)).collect();
        let once: ArrayRef = Arc::new(Float64Array::from(many.clone()));
        let reversed: ArrayRef = Arc::new(Float64Array::from(many.into_iter().rev().collect::<Vec<_>>()));
        assert_eq!(finish("sum", &once, 1000), finish("sum", &reversed, 1000));
    }

    #[test]
    fn fixed_scale_decimals() {
        let column: ArrayRef =
            Arc::new(Decimal128Array::from(vec![Some(150), None, Some(-25)]).with_precision_and_scale(10, 2).unwrap());
        assert_eq!(finish("sum", &column, 3), "1.25");
        assert_eq!(finish("avg", &column, 3), "0.62500000000000000000");
    }

    #[test]
    fn filters_leave_rows_out() {
        let accumulator = Accumulator::new("count", None).unwrap();
        let mut lanes = vec![9; 3];
        let filter = BooleanArray::from(vec![Some(true), Some(false), None]);
        accumulator.contributions(None, Some(&filter), 3, &mut lanes, 1, 0);
        assert_eq!(lanes, [1, 0, 0]);
    }
}
