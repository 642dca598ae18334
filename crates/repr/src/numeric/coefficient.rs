//! The integer inside a decimal: an `i128` while it fits, a `BigInt` beyond.
//!
//! Every result is brought back to `Small` when it fits, so equal values have equal forms.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::Signed;

/// A signed integer of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Coefficient {
    Small(i128),
    Big(BigInt),
}

use Coefficient::{Big, Small};

/// The powers of ten an `i128` holds.
const POW10: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

pub(crate) fn pow10_big(exponent: u32) -> BigInt {
    match POW10.get(exponent as usize) {
        Some(power) => BigInt::from(*power),
        None => BigInt::from(10).pow(exponent),
    }
}

impl Coefficient {
    pub(crate) fn from_big(value: BigInt) -> Coefficient {
        match super::big_to_i128(&value) {
            Some(small) => Small(small),
            None => Big(value),
        }
    }

    pub(crate) fn to_big(&self) -> BigInt {
        match self {
            Small(value) => BigInt::from(*value),
            Big(value) => value.clone(),
        }
    }

    pub(crate) fn to_i128(&self) -> Option<i128> {
        match self {
            Small(value) => Some(*value),
            Big(_) => None,
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        matches!(self, Small(0))
    }

    pub(crate) fn is_negative(&self) -> bool {
        match self {
            Small(value) => *value < 0,
            Big(value) => value.is_negative(),
        }
    }

    pub(crate) fn negate(&self) -> Coefficient {
        match self {
            Small(value) if *value != i128::MIN => Small(-value),
            other => Coefficient::from_big(-other.to_big()),
        }
    }

    pub(crate) fn abs(&self) -> Coefficient {
        if self.is_negative() { self.negate() } else { self.clone() }
    }

    /// Decimal digits; 1 for zero.
    pub(crate) fn digit_count(&self) -> u32 {
        match self {
            Small(0) => 1,
            Small(value) => value.unsigned_abs().ilog10() + 1,
            Big(value) => super::digit_count_big(value),
        }
    }

    /// Whether the absolute value is below `10^exponent`.
    pub(crate) fn is_below_pow10(&self, exponent: u32) -> bool {
        match (self, POW10.get(exponent as usize)) {
            (Small(value), Some(power)) => value.unsigned_abs() < *power as u128,
            _ => self.digit_count() <= exponent || self.is_zero(),
        }
    }

    pub(crate) fn add(&self, other: &Coefficient) -> Coefficient {
        if let (Small(left), Small(right)) = (self, other)
            && let Some(sum) = left.checked_add(*right)
        {
            return Small(sum);
        }
        Coefficient::from_big(self.to_big() + other.to_big())
    }

    pub(crate) fn multiply(&self, other: &Coefficient) -> Coefficient {
        if let (Small(left), Small(right)) = (self, other)
            && let Some(product) = left.checked_mul(*right)
        {
            return Small(product);
        }
        Coefficient::from_big(self.to_big() * other.to_big())
    }

    pub(crate) fn multiply_pow10(&self, exponent: u32) -> Coefficient {
        match (self, POW10.get(exponent as usize)) {
            (_, Some(1)) => self.clone(),
            (Small(0), _) => Small(0),
            (Small(value), Some(power)) => match value.checked_mul(*power) {
                Some(product) => Small(product),
                None => Coefficient::from_big(BigInt::from(*value) * BigInt::from(*power)),
            },
            _ => Coefficient::from_big(self.to_big() * pow10_big(exponent)),
        }
    }

    /// Quotient and remainder, both towards zero. The divisor is not zero.
    pub(crate) fn divide_trunc(&self, divisor: &Coefficient) -> (Coefficient, Coefficient) {
        match (self, divisor) {
            // i128::MIN / -1 is the one quotient that does not fit.
            (Small(left), Small(right)) if *right != -1 => (Small(left / right), Small(left % right)),
            (left, Small(-1)) => (left.negate(), Small(0)),
            (left, right) => {
                let (left, right) = (left.to_big(), right.to_big());
                (Coefficient::from_big(&left / &right), Coefficient::from_big(&left % &right))
            }
        }
    }

    /// The quotient rounded half away from zero. The divisor is not zero.
    pub(crate) fn divide_round(&self, divisor: &Coefficient) -> Coefficient {
        let (quotient, remainder) = self.divide_trunc(divisor);
        if remainder.is_zero() {
            return quotient;
        }
        let away = match (&remainder, divisor) {
            (Small(remainder), Small(divisor)) => {
                // remainder >= divisor - remainder is 2 * remainder >= divisor without overflow.
                let (remainder, divisor) = (remainder.unsigned_abs(), divisor.unsigned_abs());
                remainder >= divisor - remainder
            }
            (remainder, divisor) => remainder.to_big().abs() * 2 >= divisor.to_big().abs(),
        };
        if !away {
            return quotient;
        }
        quotient.add(&Small(if self.is_negative() == divisor.is_negative() { 1 } else { -1 }))
    }

    pub(crate) fn divide_pow10_round(&self, exponent: u32) -> Coefficient {
        self.divide_round(&Coefficient::pow10(exponent))
    }

    pub(crate) fn divide_pow10_trunc(&self, exponent: u32) -> Coefficient {
        self.divide_trunc(&Coefficient::pow10(exponent)).0
    }

    fn pow10(exponent: u32) -> Coefficient {
        match POW10.get(exponent as usize) {
            Some(power) => Small(*power),
            None => Coefficient::from_big(pow10_big(exponent)),
        }
    }

    pub(crate) fn cmp(&self, other: &Coefficient) -> Ordering {
        match (self, other) {
            (Small(left), Small(right)) => left.cmp(right),
            _ if self.is_zero() || other.is_zero() => {
                let sign = |value: &Coefficient| if value.is_zero() { 0 } else { 1 - 2 * value.is_negative() as i8 };
                sign(self).cmp(&sign(other))
            }
            _ => self.to_big().cmp(&other.to_big()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crosses_the_border_of_i128_both_ways() {
        let large = Small(i128::MAX).add(&Small(1));
        assert!(matches!(large, Big(_)));
        assert_eq!(large.add(&Small(-1)), Small(i128::MAX));
        assert_eq!(large.divide_round(&Small(2)), Small(i128::MAX / 2 + 1));
        assert_eq!(Small(i128::MIN).divide_trunc(&Small(-1)).0, large);
    }

    #[test]
    fn counts_digits_exactly() {
        for exponent in [0u32, 1, 5, 38, 39, 40, 77, 500] {
            let power = Coefficient::from_big(pow10_big(exponent));
            assert_eq!(power.digit_count(), exponent + 1, "10^{exponent}");
            if exponent > 0 {
                assert_eq!(power.add(&Small(-1)).digit_count(), exponent, "10^{exponent} - 1");
            }
        }
    }
}
