//! Roots, powers, exponentials and logarithms of numeric, at the scales PostgreSQL shows.
//!
//! All are computed on integers scaled by a power of ten with guard digits to spare, and rounded once at the end.

use num_bigint::BigInt;
use num_traits::{One, Signed, Zero};

use super::coefficient::{Coefficient, pow10_big};
use super::{DISPLAY_SCALE_MAX, Decimal, INTEGER_DIGITS_MAX, Numeric, SIGNIFICANT_DIGITS_MIN, big_at_scale, overflow};
use crate::{PgError, SqlState};

const LN_10: f64 = std::f64::consts::LN_10;
/// Digits computed beyond those shown.
const GUARD_DIGITS: i64 = 12;
/// The exponent beyond which exp() has left numeric's range either way.
const EXP_LIMIT: f64 = INTEGER_DIGITS_MAX as f64 * LN_10;

fn invalid_logarithm(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, message)
}

fn invalid_power(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

fn result_scale(magnitude: i64, scales: &[u16]) -> i64 {
    let wanted = scales.iter().fold(SIGNIFICANT_DIGITS_MIN - magnitude, |scale, other| scale.max(*other as i64));
    wanted.clamp(0, DISPLAY_SCALE_MAX)
}

fn from_big(value: BigInt, from_scale: i64, to_scale: i64) -> Numeric {
    let coefficient = Coefficient::from_big(value);
    let coefficient = match from_scale - to_scale {
        shift if shift >= 0 => coefficient.divide_pow10_round(shift as u32),
        shift => coefficient.multiply_pow10(-shift as u32),
    };
    Numeric::Finite(Decimal::new(coefficient, to_scale))
}

impl Numeric {
    /// The square root. Error `2201F` for negatives.
    pub fn sqrt(&self) -> Result<Numeric, PgError> {
        let decimal = match self {
            Numeric::NaN | Numeric::Infinity => return Ok(self.clone()),
            value if value.is_negative() => return Err(invalid_power("cannot take square root of a negative number")),
            Numeric::Finite(decimal) => decimal,
            Numeric::NegativeInfinity => return Ok(Numeric::NaN),
        };
        let (weight, _) = decimal.weight_and_first_digit();
        let root_weight = if weight >= 0 { (weight * 4) / 2 + 1 } else { 1 - (1 - weight * 4) / 2 };
        let scale = result_scale(root_weight, &[decimal.scale]);
        let guarded = scale + 2;
        let root = big_at_scale(decimal, 2 * guarded as u32).sqrt();
        Ok(from_big(root, guarded, scale))
    }

    /// The square root with as many digits after the point as the number has itself. Error `2201F` for negatives.
    pub fn sqrt_at_own_scale(&self) -> Result<Numeric, PgError> {
        match self {
            Numeric::Finite(decimal) if !self.is_negative() => {
                let scale = decimal.scale as i64;
                let guarded = scale + 2;
                let root = big_at_scale(decimal, 2 * guarded as u32).sqrt();
                Ok(from_big(root, guarded, scale))
            }
            other => other.sqrt(),
        }
    }

    /// e to this power. Error `22003`.
    pub fn exp(&self) -> Result<Numeric, PgError> {
        let decimal = match self {
            Numeric::NaN | Numeric::Infinity => return Ok(self.clone()),
            Numeric::NegativeInfinity => return Ok(Numeric::ZERO),
            Numeric::Finite(decimal) => decimal,
        };
        let approximate = self.to_f64();
        let magnitude = (approximate / LN_10).clamp(-2000.0, 2000.0) as i64;
        let scale = result_scale(magnitude, &[decimal.scale]);
        exp_decimal(decimal, approximate, scale)
    }

    /// The natural logarithm. Error `2201E` for zero and negatives.
    pub fn ln(&self) -> Result<Numeric, PgError> {
        let Some(decimal) = self.logarithm_argument()? else { return Ok(self.clone()) };
        let scale = result_scale(ln_magnitude(decimal), &[decimal.scale]);
        let working = scale + GUARD_DIGITS;
        Ok(from_big(ln_scaled(decimal, working), working, scale))
    }

    /// The logarithm to base 10. Error `2201E` for zero and negatives.
    pub fn log10(&self) -> Result<Numeric, PgError> {
        Numeric::from_i64(10).log(self)
    }

    /// The logarithm of `value` to this base. Errors `2201E`, `22012`.
    pub fn log(&self, value: &Numeric) -> Result<Numeric, PgError> {
        let (Some(base), Some(decimal)) = (self.logarithm_argument()?, value.logarithm_argument()?) else {
            return Ok(match (self, value) {
                (Numeric::NaN, _) | (_, Numeric::NaN) => Numeric::NaN,
                (Numeric::Infinity, Numeric::Infinity) => Numeric::NaN,
                (Numeric::Infinity, _) => Numeric::ZERO,
                _ => Numeric::Infinity,
            });
        };
        let scale = result_scale(ln_magnitude(decimal) - ln_magnitude(base), &[base.scale, decimal.scale]);
        let working = scale + GUARD_DIGITS + ln_magnitude(decimal).abs() + 2 * ln_magnitude(base).abs();
        let divisor = ln_scaled(base, working);
        if divisor.is_zero() {
            return Err(super::division_by_zero());
        }
        let quotient = ln_scaled(decimal, working) * pow10_big(working as u32) / divisor;
        Ok(from_big(quotient, working, scale))
    }

    fn logarithm_argument(&self) -> Result<Option<&Decimal>, PgError> {
        match self {
            value if value.is_zero() => Err(invalid_logarithm("cannot take logarithm of zero")),
            value if value.is_negative() => Err(invalid_logarithm("cannot take logarithm of a negative number")),
            Numeric::Finite(decimal) => Ok(Some(decimal)),
            _ => Ok(None),
        }
    }

    /// This to the power of `exponent`. Errors `2201F`, `22003`.
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric, PgError> {
        let (Numeric::Finite(base), Numeric::Finite(power)) = (self, exponent) else {
            return power_special(self, exponent);
        };
        if base.is_zero() && exponent.is_negative() {
            return Err(invalid_power("zero raised to a negative power is undefined"));
        }
        let whole = exponent.trunc(0) == *exponent;
        if whole && let Some(integer) = exponent.to_i128().and_then(|value| i32::try_from(value).ok()) {
            return power_integer(base, integer, power.scale);
        }
        if base.is_zero() {
            return Ok(Numeric::from_parts(0, SIGNIFICANT_DIGITS_MIN as u16));
        }
        if base.coefficient.is_negative() {
            if !whole {
                return Err(invalid_power("a negative number raised to a non-integer power yields a complex result"));
            }
            let odd = !exponent.rem(&Numeric::from_i64(2))?.is_zero();
            let magnitude = self.abs().power(exponent)?;
            return Ok(if odd { magnitude.neg() } else { magnitude });
        }
        let approximate = exponent.to_f64() * ln_f64(base);
        let scale = result_scale((approximate / LN_10).clamp(-2000.0, 2000.0) as i64, &[base.scale, power.scale]);
        if approximate > EXP_LIMIT {
            return Err(overflow());
        }
        if approximate / LN_10 < -(DISPLAY_SCALE_MAX as f64) - 1.0 {
            return Ok(Numeric::from_parts(0, scale as u16));
        }
        // The exponent multiplies ln's error, and exp multiplies it by the size of the result.
        let working = scale + GUARD_DIGITS + power.magnitude().max(0) + (approximate / LN_10).abs() as i64;
        let logarithm = ln_scaled(base, working) * power.coefficient.to_big() / pow10_big(power.scale as u32);
        Ok(from_big(exp_scaled(logarithm, working), working, scale))
    }
}

fn power_special(base: &Numeric, exponent: &Numeric) -> Result<Numeric, PgError> {
    let one = Numeric::from_i64(1);
    if exponent.is_zero() || *base == one {
        return Ok(one);
    }
    if base.is_nan() || exponent.is_nan() {
        return Ok(Numeric::NaN);
    }
    if base.is_zero() && exponent.is_negative() {
        return Err(invalid_power("zero raised to a negative power is undefined"));
    }
    if let Numeric::Finite(_) = exponent {
        // The base is infinite.
        if exponent.is_negative() {
            return Ok(Numeric::ZERO);
        }
        let whole = exponent.trunc(0) == *exponent;
        if base.is_negative() {
            if !whole {
                return Err(invalid_power("a negative number raised to a non-integer power yields a complex result"));
            }
            let odd = !exponent.rem(&Numeric::from_i64(2))?.is_zero();
            return Ok(if odd { Numeric::NegativeInfinity } else { Numeric::Infinity });
        }
        return Ok(Numeric::Infinity);
    }
    let magnitude = base.abs();
    match magnitude.cmp(&one) {
        std::cmp::Ordering::Equal => Ok(one),
        order => match (order == std::cmp::Ordering::Greater) == exponent.is_negative() {
            true => Ok(Numeric::ZERO),
            false => Ok(Numeric::Infinity),
        },
    }
}

fn power_integer(base: &Decimal, exponent: i32, exponent_scale: u16) -> Result<Numeric, PgError> {
    if exponent == 0 {
        return Ok(from_big(BigInt::one(), 0, SIGNIFICANT_DIGITS_MIN));
    }
    if base.is_zero() {
        return Ok(Numeric::from_parts(0, result_scale(0, &[base.scale, exponent_scale]) as u16));
    }
    let magnitude = exponent as f64 * ln_f64(base) / LN_10;
    if magnitude > INTEGER_DIGITS_MAX as f64 {
        return Err(overflow());
    }
    if magnitude + 1.0 < -(DISPLAY_SCALE_MAX as f64) {
        return Ok(Numeric::from_parts(0, DISPLAY_SCALE_MAX as u16));
    }
    // PostgreSQL 15 does not look at the size of the result here.
    let scale = result_scale(0, &[base.scale, exponent_scale]);
    let coefficient = base.coefficient.to_big();
    let exact_digits = base.coefficient.digit_count() as u64 * exponent.unsigned_abs() as u64;
    if exact_digits <= 20_000 {
        let power = coefficient.pow(exponent.unsigned_abs());
        let power_scale = base.scale as i64 * exponent.unsigned_abs() as i64;
        return Ok(if exponent > 0 {
            let value = Coefficient::from_big(power);
            Numeric::Finite(Decimal::new(shift_round(value, power_scale - scale), scale))
        } else {
            let numerator = Coefficient::from_big(pow10_big((power_scale + scale) as u32));
            Numeric::Finite(Decimal::new(numerator.divide_round(&Coefficient::from_big(power)), scale))
        });
    }
    let working = scale + GUARD_DIGITS + 10 + magnitude.abs() as i64;
    let positive = Decimal { coefficient: base.coefficient.abs(), scale: base.scale };
    let result = exp_scaled(ln_scaled(&positive, working) * exponent, working);
    let negative = base.coefficient.is_negative() && exponent % 2 != 0;
    Ok(from_big(if negative { -result } else { result }, working, scale))
}

fn shift_round(value: Coefficient, drop: i64) -> Coefficient {
    if drop >= 0 { value.divide_pow10_round(drop as u32) } else { value.multiply_pow10(-drop as u32) }
}

/// ln of a positive decimal of any size.
fn ln_f64(decimal: &Decimal) -> f64 {
    let digit_count = decimal.coefficient.digit_count();
    let drop = digit_count.saturating_sub(17);
    let leading = decimal.coefficient.abs().divide_pow10_trunc(drop).to_i128().unwrap_or(1) as f64;
    leading.ln() + (drop as f64 - decimal.scale as f64) * LN_10
}

/// PostgreSQL's estimate of the decimal position of ln's leading digit.
fn ln_magnitude(decimal: &Decimal) -> i64 {
    let value = Numeric::Finite(decimal.clone());
    let approximate = value.to_f64();
    if (0.9..=1.1).contains(&approximate) {
        let difference = value.sub(&Numeric::from_i64(1)).unwrap_or(Numeric::ZERO);
        return match &difference {
            Numeric::Finite(difference) if !difference.is_zero() => {
                let (weight, first) = difference.weight_and_first_digit();
                weight * 4 + first.ilog10() as i64
            }
            _ => 0,
        };
    }
    ln_f64(decimal).abs().log10() as i64
}

fn exp_decimal(decimal: &Decimal, approximate: f64, scale: i64) -> Result<Numeric, PgError> {
    if approximate > EXP_LIMIT {
        return Err(overflow());
    }
    if approximate / LN_10 < -(DISPLAY_SCALE_MAX as f64) - 1.0 {
        return Ok(Numeric::from_parts(0, scale as u16));
    }
    let working = scale + GUARD_DIGITS + (approximate / LN_10).max(0.0) as i64;
    Ok(from_big(exp_scaled(big_at_scale(decimal, working as u32), working), working, scale))
}

/// exp(x / 10^scale) * 10^scale, good to a few units of the last of `scale` relative to the result's size.
fn exp_scaled(x: BigInt, scale: i64) -> BigInt {
    // Halve until the series converges fast, then square as often: each squaring doubles the relative error.
    let approximate = (x.bits() as f64 * std::f64::consts::LOG10_2 - scale as f64).max(0.0);
    let halvings = 8 + (approximate / std::f64::consts::LOG10_2) as u32;
    let extra = halvings as i64 / 3 + 6 + (10f64.powf(approximate.min(6.0)) / LN_10) as i64;
    let one = pow10_big((scale + extra) as u32);
    let reduced: BigInt = (x * pow10_big(extra as u32)) >> halvings;
    let mut sum = one.clone();
    let mut term = one.clone();
    for n in 1u32.. {
        term = &term * &reduced / &one / n;
        if term.is_zero() || term == BigInt::from(-1) {
            break;
        }
        sum += &term;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one;
    }
    sum / pow10_big(extra as u32)
}

/// ln of a positive decimal, times 10^scale.
fn ln_scaled(decimal: &Decimal, scale: i64) -> BigInt {
    // x = m * 10^k with m near 1, roots until m is nearer still, then the series of 2 atanh((m - 1) / (m + 1)).
    let magnitude = decimal.magnitude();
    let working = scale + 10 + (magnitude.unsigned_abs().max(1)).ilog10() as i64;
    let one = pow10_big(working as u32);
    let mantissa_scale = decimal.scale as i64 + magnitude;
    let coefficient = decimal.coefficient.to_big();
    let mantissa = match working - mantissa_scale {
        shift if shift >= 0 => coefficient * pow10_big(shift as u32),
        shift => coefficient / pow10_big(-shift as u32),
    };
    let mut result = ln_near_one(mantissa, &one);
    if magnitude != 0 {
        result += ln_near_one(&one * 10, &one) * magnitude;
    }
    result / pow10_big((working - scale) as u32)
}

fn ln_near_one(mut value: BigInt, one: &BigInt) -> BigInt {
    let mut roots = 0u32;
    let extra = pow10_big(6);
    let one = one * &extra;
    value *= &extra;
    while (&value - &one).abs() * 20 > one {
        value = (&value * &one).sqrt();
        roots += 1;
    }
    let ratio = (&value - &one) * &one / (&value + &one);
    let square = &ratio * &ratio / &one;
    let mut power = ratio.clone();
    let mut sum = ratio;
    for n in (3u32..).step_by(2) {
        power = &power * &square / &one;
        let term: BigInt = &power / n;
        if term.is_zero() {
            break;
        }
        sum += term;
    }
    ((sum << 1) << roots) / extra
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(text: &str) -> Numeric {
        Numeric::parse(text).unwrap()
    }

    #[test]
    fn results_are_postgres_to_the_digit() {
        // x, sqrt(x), ln(x), log(x), power(x, 0.5), power(x, 3), power(x, -2) as PostgreSQL 15 prints them.
        let table = "\
2|1.414213562373095|0.6931471805599453|0.3010299956639812|1.4142135623730950|8.0000000000000000|0.2500000000000000
10|3.162277660168379|2.3025850929940457|1.0000000000000000|3.1622776601683793|1000.0000000000000000|0.0100000000000000
100|10.000000000000000|4.6051701859880914|2.0000000000000000|10.000000000000000|1000000.0000000000000000|0.0001000000000000
12345678.9|3513.6418286444622|16.328816673173972|7.091514977169270|3513.6418286444622|1881676371789154860897.0690000000000000|0.0000000000000066
0.0001|0.01000000000000000|-9.2103403719761827|-4.0000000000000000|0.010000000000000000|0.0000000000010000|100000000.0000000000000000
0.5|0.70710678118654752|-0.6931471805599453|-0.3010299956639812|0.7071067811865475|0.1250000000000000|4.0000000000000000
1.00001|1.000004999987500|0.000009999950000333331|0.000004342923104453187|1.0000049999875001|1.0000300003000010|0.9999800002999960
1|1.000000000000000|0.0000000000000000|0.0000000000000000|1.0000000000000000|1.0000000000000000|1.0000000000000000
0.00123|0.03507135583350036|-6.7007411095978109|-2.9100948885606021|0.03507135583350036|0.0000000018608670|660982.2195782933439090";
        for line in table.lines() {
            let [text, sqrt, ln, log, half, cube, inverse] = line.split('|').collect::<Vec<_>>()[..] else {
                unreachable!("seven columns")
            };
            let x = numeric(text);
            assert_eq!(x.sqrt().unwrap().to_string(), sqrt, "sqrt({text})");
            assert_eq!(x.ln().unwrap().to_string(), ln, "ln({text})");
            assert_eq!(x.log10().unwrap().to_string(), log, "log({text})");
            // The last digit of PostgreSQL's own square root by power() is sometimes cut, not rounded.
            let own = x.power(&numeric("0.5")).unwrap().to_string();
            assert_eq!((own.len(), &own[..own.len() - 1]), (half.len(), &half[..half.len() - 1]), "{text} ^ 0.5");
            assert_eq!(x.power(&numeric("3")).unwrap().to_string(), cube, "{text} ^ 3");
            assert_eq!(x.power(&numeric("-2")).unwrap().to_string(), inverse, "{text} ^ -2");
        }
    }

    #[test]
    fn exponentials() {
        assert_eq!(numeric("1").exp().unwrap().to_string(), "2.7182818284590452");
        assert_eq!(numeric("100").exp().unwrap().to_string(), "26881171418161354484126255515800135873611119");
        assert_eq!(
            numeric("-100").exp().unwrap().to_string(),
            "0.00000000000000000000000000000000000000000003720075976020836"
        );
        assert_eq!(numeric("2").power(&numeric("0.1")).unwrap().to_string(), "1.0717734625362932");
        assert_eq!(numeric("2.0").log(&numeric("3.5")).unwrap().to_string(), "1.8073549220576041");
        assert_eq!(numeric("2").power(&numeric("0")).unwrap().to_string(), "1.0000000000000000");
        assert!(numeric("-1").sqrt().is_err());
        assert!(numeric("0").ln().is_err());
    }
}
