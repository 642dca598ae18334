//! PostgreSQL's `numeric`: exact decimals with a display scale per value, NaN and the infinities.
//!
//! A finite value is `coefficient * 10^-scale`; the scale is what PostgreSQL calls the display scale, so `1.0` and `1.00` are
//! equal yet print differently. Nearly every value met in practice fits an `i128`; larger ones move to a `BigInt`. Result
//! scales follow PostgreSQL's rules to the digit, because users compare printed answers.
//!
//! [`encoding`] is how a value is stored, [`transcendental`] holds roots, powers and logarithms.

pub mod encoding;
pub mod transcendental;

mod coefficient;
mod moments;

use std::cmp::Ordering;
use std::fmt;

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::{PgError, SqlState};
use coefficient::Coefficient;

pub use encoding::key;
pub use moments::Spread;

/// PostgreSQL's limit of decimal digits before the point.
const INTEGER_DIGITS_MAX: i64 = 131_072;
/// PostgreSQL's limit of decimal digits after the point.
const SCALE_MAX: i64 = 16_383;
/// The scale that division, roots and logarithms never exceed.
const DISPLAY_SCALE_MAX: i64 = 1_000;
/// Division, roots and logarithms give at least this many significant digits.
const SIGNIFICANT_DIGITS_MIN: i64 = 16;

/// One value of type numeric. Ordered as PostgreSQL does: NaN equals itself and is greatest.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// `-Infinity`.
    NegativeInfinity,
    /// An exact decimal.
    Finite(Decimal),
    /// `Infinity`.
    Infinity,
    /// Not a number.
    NaN,
}

/// `coefficient * 10^-scale`.
#[derive(Clone, Debug)]
pub struct Decimal {
    coefficient: Coefficient,
    scale: u16,
}

fn overflow() -> PgError {
    PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

fn division_by_zero() -> PgError {
    PgError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

impl Decimal {
    fn new(coefficient: Coefficient, scale: i64) -> Decimal {
        debug_assert!((0..=SCALE_MAX).contains(&scale));
        Decimal { coefficient, scale: scale as u16 }
    }

    /// Digits after the point that are shown.
    pub fn scale(&self) -> u16 {
        self.scale
    }

    /// The coefficient where it fits.
    pub fn coefficient_i128(&self) -> Option<i128> {
        self.coefficient.to_i128()
    }

    fn is_zero(&self) -> bool {
        self.coefficient.is_zero()
    }

    /// The position of the leading digit: 0 for 1..9, 1 for 10..99, -1 for 0.1..; 0 for zero.
    fn magnitude(&self) -> i64 {
        match self.is_zero() {
            true => 0,
            false => self.coefficient.digit_count() as i64 - self.scale as i64 - 1,
        }
    }

    /// PostgreSQL's weight: the position of the leading base-10000 digit, and that digit's value.
    fn weight_and_first_digit(&self) -> (i64, i64) {
        if self.is_zero() {
            return (0, 0);
        }
        let digit_count = self.coefficient.digit_count() as i64;
        let magnitude = digit_count - self.scale as i64 - 1;
        let weight = magnitude.div_euclid(4);
        let kept = magnitude - 4 * weight + 1;
        let digits = if digit_count >= kept {
            self.coefficient.abs().divide_pow10_trunc((digit_count - kept) as u32)
        } else {
            self.coefficient.abs().multiply_pow10((kept - digit_count) as u32)
        };
        (weight, digits.to_i128().unwrap_or_default() as i64)
    }

    /// The same value at another scale: rounded half away from zero where digits go.
    fn rescale(&self, scale: i64) -> Decimal {
        let from = self.scale as i64;
        let coefficient = match scale.cmp(&from) {
            Ordering::Equal => return self.clone(),
            Ordering::Greater => self.coefficient.multiply_pow10((scale - from) as u32),
            Ordering::Less => self.coefficient.divide_pow10_round((from - scale) as u32),
        };
        Decimal::new(coefficient, scale)
    }

    fn compare(&self, other: &Decimal) -> Ordering {
        if self.scale == other.scale {
            return self.coefficient.cmp(&other.coefficient);
        }
        let scale = self.scale.max(other.scale);
        let left = self.coefficient.multiply_pow10((scale - self.scale) as u32);
        let right = other.coefficient.multiply_pow10((scale - other.scale) as u32);
        left.cmp(&right)
    }

    fn checked(self) -> Result<Numeric, PgError> {
        // An i128 has 39 digits at most, so only big coefficients can be out of range.
        if let Coefficient::Big(_) = self.coefficient
            && self.magnitude() >= INTEGER_DIGITS_MAX
        {
            return Err(overflow());
        }
        Ok(Numeric::Finite(self))
    }
}

impl Numeric {
    /// Zero, printed `0`.
    pub const ZERO: Numeric = Numeric::Finite(Decimal { coefficient: Coefficient::Small(0), scale: 0 });

    /// `coefficient * 10^-scale`.
    pub fn from_parts(coefficient: i128, scale: u16) -> Numeric {
        Numeric::Finite(Decimal { coefficient: Coefficient::Small(coefficient), scale })
    }

    /// `coefficient * 10^-scale` for any size of coefficient.
    pub fn from_big_parts(coefficient: BigInt, scale: u16) -> Numeric {
        Numeric::Finite(Decimal { coefficient: Coefficient::from_big(coefficient), scale })
    }

    /// An integer, with scale 0.
    pub fn from_i128(value: i128) -> Numeric {
        Numeric::from_parts(value, 0)
    }

    /// An integer, with scale 0.
    pub fn from_i64(value: i64) -> Numeric {
        Numeric::from_i128(value as i128)
    }

    /// As PostgreSQL's cast from double precision: 15 significant digits.
    pub fn from_f64(value: f64) -> Numeric {
        from_float(value, 15)
    }

    /// As PostgreSQL's cast from real: 6 significant digits.
    pub fn from_f32(value: f32) -> Numeric {
        from_float(value as f64, 6)
    }

    /// The finite part, if it is finite.
    pub fn decimal(&self) -> Option<&Decimal> {
        match self {
            Numeric::Finite(decimal) => Some(decimal),
            _ => None,
        }
    }

    /// Whether it is NaN.
    pub fn is_nan(&self) -> bool {
        matches!(self, Numeric::NaN)
    }

    /// Whether it equals zero.
    pub fn is_zero(&self) -> bool {
        self.decimal().is_some_and(Decimal::is_zero)
    }

    /// Below zero.
    pub fn is_negative(&self) -> bool {
        match self {
            Numeric::NegativeInfinity => true,
            Numeric::Finite(decimal) => decimal.coefficient.is_negative(),
            Numeric::Infinity | Numeric::NaN => false,
        }
    }

    /// Rounded half away from zero to an integer; None if it is not finite or does not fit.
    pub fn to_i128(&self) -> Option<i128> {
        self.decimal().and_then(|decimal| decimal.rescale(0).coefficient.to_i128())
    }

    /// Rounded half away from zero to an integer; None if it is not finite or does not fit.
    pub fn to_i64(&self) -> Option<i64> {
        self.to_i128().and_then(|value| value.try_into().ok())
    }

    /// The nearest double, infinite if too large.
    pub fn to_f64(&self) -> f64 {
        match self {
            Numeric::NegativeInfinity => f64::NEG_INFINITY,
            Numeric::Infinity => f64::INFINITY,
            Numeric::NaN => f64::NAN,
            Numeric::Finite(decimal) => match decimal.coefficient {
                // Both are exact doubles, so their quotient is the correctly rounded one.
                Coefficient::Small(value) if value.unsigned_abs() < 1 << 53 && decimal.scale <= 22 => {
                    value as f64 / 10f64.powi(decimal.scale as i32)
                }
                _ => self.to_string().parse().unwrap_or(f64::NAN),
            },
        }
    }

    /// Reads PostgreSQL's input syntax, blanks around it allowed. Errors `22P02`, and `22003` beyond numeric's range.
    pub fn parse(text: &str) -> Result<Numeric, PgError> {
        let invalid = || {
            PgError::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("invalid input syntax for type numeric: \"{text}\""),
            )
        };
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, body) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, &trimmed[1..]),
            Some(b'+') => (false, &trimmed[1..]),
            _ => (false, trimmed),
        };
        if let Some(b'0'..=b'9' | b'.') = body.as_bytes().first() {
            return parse_decimal(body, negative, invalid);
        }
        match body.to_ascii_lowercase().as_str() {
            "nan" if body.len() == trimmed.len() => Ok(Numeric::NaN),
            "infinity" | "inf" if negative => Ok(Numeric::NegativeInfinity),
            "infinity" | "inf" => Ok(Numeric::Infinity),
            _ => Err(invalid()),
        }
    }

    /// The sum, at the larger scale. Error `22003`.
    pub fn add(&self, other: &Numeric) -> Result<Numeric, PgError> {
        let (left, right) = match (self, other) {
            (Numeric::Finite(left), Numeric::Finite(right)) => (left, right),
            (Numeric::NaN, _) | (_, Numeric::NaN) => return Ok(Numeric::NaN),
            (Numeric::Infinity, Numeric::NegativeInfinity) | (Numeric::NegativeInfinity, Numeric::Infinity) => {
                return Ok(Numeric::NaN);
            }
            (Numeric::Finite(_), infinity) | (infinity, _) => return Ok(infinity.clone()),
        };
        let scale = left.scale.max(right.scale);
        let coefficient = match left.scale == right.scale {
            true => left.coefficient.add(&right.coefficient),
            false => {
                let left = left.coefficient.multiply_pow10((scale - left.scale) as u32);
                left.add(&right.coefficient.multiply_pow10((scale - right.scale) as u32))
            }
        };
        Decimal { coefficient, scale }.checked()
    }

    /// The difference, at the larger scale. Error `22003`.
    pub fn sub(&self, other: &Numeric) -> Result<Numeric, PgError> {
        self.add(&other.neg())
    }

    /// The product, at the sum of the scales. Error `22003`.
    pub fn mul(&self, other: &Numeric) -> Result<Numeric, PgError> {
        let (left, right) = match (self, other) {
            (Numeric::Finite(left), Numeric::Finite(right)) => (left, right),
            (Numeric::NaN, _) | (_, Numeric::NaN) => return Ok(Numeric::NaN),
            _ if self.is_zero() || other.is_zero() => return Ok(Numeric::NaN),
            _ if self.is_negative() != other.is_negative() => return Ok(Numeric::NegativeInfinity),
            _ => return Ok(Numeric::Infinity),
        };
        let coefficient = left.coefficient.multiply(&right.coefficient);
        let scale = left.scale as i64 + right.scale as i64;
        if scale > SCALE_MAX {
            let coefficient = coefficient.divide_pow10_round((scale - SCALE_MAX) as u32);
            return Decimal::new(coefficient, SCALE_MAX).checked();
        }
        Decimal::new(coefficient, scale).checked()
    }

    /// The quotient, with at least 16 significant digits by PostgreSQL's rule. Errors `22012`, `22003`.
    pub fn div(&self, other: &Numeric) -> Result<Numeric, PgError> {
        let (left, right) = match self.division_operands(other)? {
            Ok(operands) => operands,
            Err(special) => return Ok(special),
        };
        let (left_weight, left_first) = left.weight_and_first_digit();
        let (right_weight, right_first) = right.weight_and_first_digit();
        let quotient_weight = left_weight - right_weight - (left_first <= right_first) as i64;
        let scale = (SIGNIFICANT_DIGITS_MIN - quotient_weight * 4).max(left.scale as i64).max(right.scale as i64);
        divide_to_scale(left, right, scale.clamp(0, DISPLAY_SCALE_MAX)).checked()
    }

    /// The quotient rounded towards zero to an integer, PostgreSQL's `div`. Errors `22012`, `22003`.
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric, PgError> {
        let (left, right) = match self.division_operands(other)? {
            Ok(operands) => operands,
            Err(special) => return Ok(special),
        };
        let scale = left.scale.max(right.scale);
        let dividend = left.coefficient.multiply_pow10((scale - left.scale) as u32);
        let divisor = right.coefficient.multiply_pow10((scale - right.scale) as u32);
        Decimal { coefficient: dividend.divide_trunc(&divisor).0, scale: 0 }.checked()
    }

    /// The remainder, with the dividend's sign, at the larger scale. Error `22012`.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric, PgError> {
        let (left, right) = match (self, other) {
            (Numeric::NaN, _) | (_, Numeric::NaN) => return Ok(Numeric::NaN),
            (_, right) if right.is_zero() => return Err(division_by_zero()),
            (Numeric::Finite(left), Numeric::Finite(right)) => (left, right),
            (Numeric::Finite(_), _) => return Ok(self.clone()),
            _ => return Ok(Numeric::NaN),
        };
        let scale = left.scale.max(right.scale);
        let dividend = left.coefficient.multiply_pow10((scale - left.scale) as u32);
        let divisor = right.coefficient.multiply_pow10((scale - right.scale) as u32);
        Decimal { coefficient: dividend.divide_trunc(&divisor).1, scale }.checked()
    }

    /// Division's special cases: the finite operands, or the answer where an operand is not finite.
    fn division_operands<'a>(
        &'a self,
        other: &'a Numeric,
    ) -> Result<Result<(&'a Decimal, &'a Decimal), Numeric>, PgError> {
        match (self, other) {
            (Numeric::NaN, _) | (_, Numeric::NaN) => Ok(Err(Numeric::NaN)),
            (_, right) if right.is_zero() => Err(division_by_zero()),
            (Numeric::Finite(left), Numeric::Finite(right)) => Ok(Ok((left, right))),
            (Numeric::Finite(_), _) => Ok(Err(Numeric::ZERO)),
            (_, Numeric::Finite(_)) if self.is_negative() != other.is_negative() => Ok(Err(Numeric::NegativeInfinity)),
            (_, Numeric::Finite(_)) => Ok(Err(Numeric::Infinity)),
            _ => Ok(Err(Numeric::NaN)),
        }
    }

    /// The negation.
    pub fn neg(&self) -> Numeric {
        match self {
            Numeric::NegativeInfinity => Numeric::Infinity,
            Numeric::Infinity => Numeric::NegativeInfinity,
            Numeric::NaN => Numeric::NaN,
            Numeric::Finite(Decimal { coefficient, scale }) => {
                Numeric::Finite(Decimal { coefficient: coefficient.negate(), scale: *scale })
            }
        }
    }

    /// The absolute value.
    pub fn abs(&self) -> Numeric {
        if self.is_negative() { self.neg() } else { self.clone() }
    }

    /// -1, 0 or 1 (NaN for NaN).
    pub fn signum(&self) -> Numeric {
        match self {
            Numeric::NaN => Numeric::NaN,
            value if value.is_zero() => Numeric::ZERO,
            value => Numeric::from_i64(if value.is_negative() { -1 } else { 1 }),
        }
    }

    /// Rounded half away from zero to `places` digits after the point, before it where negative.
    pub fn round(&self, places: i64) -> Numeric {
        self.to_places(places, Coefficient::divide_pow10_round)
    }

    /// Cut towards zero to `places` digits after the point, before it where negative.
    pub fn trunc(&self, places: i64) -> Numeric {
        self.to_places(places, Coefficient::divide_pow10_trunc)
    }

    fn to_places(&self, places: i64, divide: fn(&Coefficient, u32) -> Coefficient) -> Numeric {
        let places = places.clamp(-INTEGER_DIGITS_MAX, SCALE_MAX);
        let Numeric::Finite(decimal) = self else { return self.clone() };
        if places >= decimal.scale as i64 {
            return Numeric::Finite(decimal.rescale(places));
        }
        let coefficient = divide(&decimal.coefficient, (decimal.scale as i64 - places) as u32);
        Numeric::Finite(match places < 0 {
            true => Decimal::new(coefficient.multiply_pow10(-places as u32), 0),
            false => Decimal::new(coefficient, places),
        })
    }

    /// The largest integer not above it.
    pub fn floor(&self) -> Numeric {
        let truncated = self.trunc(0);
        match self.is_negative() && *self != truncated {
            true => truncated.sub(&Numeric::from_i64(1)).unwrap_or(truncated),
            false => truncated,
        }
    }

    /// The smallest integer not below it.
    pub fn ceil(&self) -> Numeric {
        self.neg().floor().neg()
    }

    /// The same value without trailing zeros after the point.
    pub fn trim_scale(&self) -> Numeric {
        let Numeric::Finite(decimal) = self else { return self.clone() };
        let mut decimal = decimal.clone();
        while decimal.scale > 0 {
            let (quotient, rest) = decimal.coefficient.divide_trunc(&Coefficient::Small(10));
            if !rest.is_zero() {
                break;
            }
            decimal = Decimal { coefficient: quotient, scale: decimal.scale - 1 };
        }
        Numeric::Finite(decimal)
    }

    /// The value as a column `numeric(p, s)` holds it. `typmod` is PostgreSQL's; -1 changes nothing. Error `22003`.
    pub fn apply_typmod(&self, typmod: i32) -> Result<Numeric, PgError> {
        let Some((precision, scale)) = precision_and_scale(typmod) else { return Ok(self.clone()) };
        let fail = |detail: String| {
            Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(detail))
        };
        let decimal = match self {
            Numeric::NaN => return Ok(Numeric::NaN),
            Numeric::Finite(decimal) => decimal,
            _ => {
                return fail(format!(
                    "A field with precision {precision}, scale {scale} cannot hold an infinite value."
                ));
            }
        };
        if decimal.scale as i32 == scale && decimal.coefficient.is_below_pow10(precision as u32) {
            return Ok(self.clone());
        }
        let rounded = self.round(scale as i64);
        let Numeric::Finite(decimal) = &rounded else { return Ok(rounded) };
        let integer_digits = precision - scale;
        if !decimal.is_zero() && decimal.magnitude() >= integer_digits as i64 {
            let bound = if integer_digits == 0 { "1".to_string() } else { format!("10^{integer_digits}") };
            return fail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
            ));
        }
        Ok(rounded)
    }
}

/// Precision and scale that a typmod of numeric means; None for -1.
pub fn precision_and_scale(typmod: i32) -> Option<(i32, i32)> {
    (typmod >= 4).then(|| {
        let packed = typmod - 4;
        // The scale is eleven bits in two's complement: PostgreSQL 15 allows negative scales.
        ((packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024)
    })
}

fn divide_to_scale(left: &Decimal, right: &Decimal, scale: i64) -> Decimal {
    let shift = scale + right.scale as i64 - left.scale as i64;
    let coefficient = if shift >= 0 {
        left.coefficient.multiply_pow10(shift as u32).divide_round(&right.coefficient)
    } else {
        left.coefficient.divide_round(&right.coefficient.multiply_pow10(-shift as u32))
    };
    Decimal::new(coefficient, scale)
}

fn from_float(value: f64, digit_count: usize) -> Numeric {
    if value.is_nan() {
        return Numeric::NaN;
    }
    if value.is_infinite() {
        return if value > 0.0 { Numeric::Infinity } else { Numeric::NegativeInfinity };
    }
    let text = format!("{:.*e}", digit_count - 1, value);
    let Some((mantissa, exponent)) = text.split_once('e') else { return Numeric::NaN };
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    Numeric::parse(&format!("{mantissa}e{exponent}")).unwrap_or(Numeric::NaN)
}

fn parse_decimal(body: &str, negative: bool, invalid: impl Fn() -> PgError) -> Result<Numeric, PgError> {
    let bytes = body.as_bytes();
    let mut small: u128 = 0;
    let mut digit_count = 0usize;
    let mut significant_count = 0usize;
    let mut fraction_count = 0i64;
    let mut point = false;
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            digit @ b'0'..=b'9' => {
                digit_count += 1;
                fraction_count += point as i64;
                if significant_count > 0 || digit != b'0' {
                    significant_count += 1;
                }
                if significant_count <= 38 {
                    small = small * 10 + (digit - b'0') as u128;
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        index += 1;
    }
    if digit_count == 0 {
        return Err(invalid());
    }
    let mut exponent = 0i64;
    if index < bytes.len() {
        if !matches!(bytes[index], b'e' | b'E') {
            return Err(invalid());
        }
        let digits = &body[index + 1..];
        let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        exponent = digits.parse().unwrap_or(i64::MAX / 4);
        if exponent.abs() >= i32::MAX as i64 / 2 {
            return Err(invalid());
        }
    }
    let mut coefficient = if significant_count <= 38 {
        Coefficient::Small(small as i128)
    } else {
        let digits: Vec<u8> = bytes[..index].iter().copied().filter(u8::is_ascii_digit).collect();
        Coefficient::from_big(BigInt::parse_bytes(&digits, 10).ok_or_else(&invalid)?)
    };
    if negative {
        coefficient = coefficient.negate();
    }
    let mut scale = fraction_count - exponent;
    if significant_count as i64 - scale > INTEGER_DIGITS_MAX {
        return Err(overflow());
    }
    if scale < 0 {
        coefficient = if coefficient.is_zero() { coefficient } else { coefficient.multiply_pow10(-scale as u32) };
        scale = 0;
    }
    if scale > SCALE_MAX {
        // Only an exponent can ask for this; PostgreSQL rounds what it cannot show.
        let drop = (scale - SCALE_MAX).min(significant_count as i64 + 1);
        coefficient = coefficient.divide_pow10_round(drop as u32);
        if scale - SCALE_MAX > drop {
            coefficient = Coefficient::Small(0);
        }
        scale = SCALE_MAX;
    }
    Decimal::new(coefficient, scale).checked()
}

impl Ord for Numeric {
    fn cmp(&self, other: &Numeric) -> Ordering {
        let rank = |value: &Numeric| match value {
            Numeric::NegativeInfinity => 0,
            Numeric::Finite(_) => 1,
            Numeric::Infinity => 2,
            Numeric::NaN => 3,
        };
        match (self, other) {
            (Numeric::Finite(left), Numeric::Finite(right)) => left.compare(right),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Numeric) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = match self {
            Numeric::NegativeInfinity => return f.write_str("-Infinity"),
            Numeric::Infinity => return f.write_str("Infinity"),
            Numeric::NaN => return f.write_str("NaN"),
            Numeric::Finite(decimal) => decimal,
        };
        let sign = if decimal.coefficient.is_negative() { "-" } else { "" };
        let scale = decimal.scale as usize;
        let digits = match &decimal.coefficient {
            Coefficient::Small(value) => value.unsigned_abs().to_string(),
            Coefficient::Big(value) => value.magnitude().to_string(),
        };
        if scale == 0 {
            write!(f, "{sign}{digits}")
        } else if digits.len() > scale {
            let (integer, fraction) = digits.split_at(digits.len() - scale);
            write!(f, "{sign}{integer}.{fraction}")
        } else {
            write!(f, "{sign}0.{digits:0>scale$}")
        }
    }
}

/// The coefficient as a `BigInt`, for algorithms that need unlimited precision.
fn big_at_scale(decimal: &Decimal, scale: u32) -> BigInt {
    decimal.rescale(scale as i64).coefficient.to_big()
}

fn digit_count_big(value: &BigInt) -> u32 {
    if value.is_zero() {
        return 1;
    }
    // An estimate from the bits is right or one too small, and comparing settles it.
    let estimate = ((value.bits() - 1) as f64 * std::f64::consts::LOG10_2) as u32;
    match value.abs() >= coefficient::pow10_big(estimate + 1) {
        true => estimate + 2,
        false if value.abs() >= coefficient::pow10_big(estimate) => estimate + 1,
        false => estimate.max(1),
    }
}

fn big_to_i128(value: &BigInt) -> Option<i128> {
    value.to_i128()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(text: &str) -> Numeric {
        Numeric::parse(text).unwrap()
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["0", "0.00", "-1.50", "12345678901234567890123456789012345678901234567890.5", "NaN", "-Infinity"] {
            assert_eq!(numeric(text).to_string(), text);
        }
        assert_eq!(numeric(" 1.5e3 ").to_string(), "1500");
        assert_eq!(numeric("1.5e-3").to_string(), "0.0015");
        assert_eq!(numeric("-0.0").to_string(), "0.0");
        assert_eq!(numeric(".5").to_string(), "0.5");
        assert!(Numeric::parse("1.2.3").is_err());
        assert!(Numeric::parse("").is_err());
        assert!(Numeric::parse("1e").is_err());
        assert!(Numeric::parse("1 2").is_err());
        assert_eq!(Numeric::parse("1e131072").unwrap_err().message, "value overflows numeric format");
    }

    #[test]
    fn division_has_postgres_scale() {
        for (left, right, quotient) in [
            ("1", "3", "0.33333333333333333333"),
            ("10", "3", "3.3333333333333333"),
            ("100", "3", "33.3333333333333333"),
            ("99999", "3", "33333.000000000000"),
            ("2", "3", "0.66666666666666666667"),
            ("1", "7.0000", "0.14285714285714285714"),
            ("0.0001", "3", "0.000033333333333333333333"),
            ("-7", "2", "-3.5000000000000000"),
            ("6.000", "2.0", "3.0000000000000000"),
            ("1e40", "7", "1428571428571428571428571428571428571429"),
        ] {
            assert_eq!(numeric(left).div(&numeric(right)).unwrap().to_string(), quotient, "{left} / {right}");
        }
        assert_eq!(numeric("1").div(&numeric("0.0")).unwrap_err().message, "division by zero");
    }

    #[test]
    fn arithmetic_keeps_scales() {
        assert_eq!(numeric("1.10").add(&numeric("2.2")).unwrap().to_string(), "3.30");
        assert_eq!(numeric("1.10").mul(&numeric("2.2")).unwrap().to_string(), "2.420");
        assert_eq!(numeric("-7.5").rem(&numeric("2")).unwrap().to_string(), "-1.5");
        assert_eq!(numeric("-7.5").div_trunc(&numeric("2")).unwrap().to_string(), "-3");
        assert_eq!(numeric("2.5").round(0).to_string(), "3");
        assert_eq!(numeric("-2.5").round(0).to_string(), "-3");
        assert_eq!(numeric("1250").round(-2).to_string(), "1300");
        assert_eq!(numeric("-1.5").floor().to_string(), "-2");
        assert_eq!(numeric("-1.5").ceil().to_string(), "-1");
        assert_eq!(numeric("1.500").trim_scale().to_string(), "1.5");
        assert_eq!(
            numeric("99999999999999999999999999999999999999")
                .mul(&numeric("99999999999999999999"))
                .unwrap()
                .to_string(),
            "9999999999999999999899999999999999999900000000000000000001"
        );
    }

    #[test]
    fn floats_come_and_go() {
        assert_eq!(Numeric::from_f64(0.1 + 0.2).to_string(), "0.3");
        assert_eq!(Numeric::from_f64(1e20).to_string(), "100000000000000000000");
        assert_eq!(Numeric::from_f64(-0.0).to_string(), "0");
        assert_eq!(Numeric::from_f32(1.1).to_string(), "1.1");
        assert_eq!(numeric("123.456").to_f64(), 123.456);
        assert_eq!(numeric("1e300").to_f64(), 1e300);
    }

    #[test]
    fn typmod_rounds_and_refuses() {
        let typmod = ((5 << 16) | 2) + 4;
        assert_eq!(numeric("123.455").apply_typmod(typmod).unwrap().to_string(), "123.46");
        assert_eq!(numeric("1").apply_typmod(typmod).unwrap().to_string(), "1.00");
        let error = numeric("999.995").apply_typmod(typmod).unwrap_err();
        assert_eq!(
            error.detail.unwrap(),
            "A field with precision 5, scale 2 must round to an absolute value less than 10^3."
        );
    }
}
