//! Variance and standard deviation from exact sums, by the formula and to the digits of PostgreSQL's numeric aggregates.

use super::Numeric;
use crate::PgError;

/// One of `var_pop`, `var_samp`, `stddev_pop` and `stddev_samp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Of a sample: over one value less.
    pub sample: bool,
    /// The square root of the variance.
    pub root: bool,
}

impl Spread {
    /// By the function's name; `variance` and `stddev` are of a sample.
    pub fn named(name: &str) -> Option<Spread> {
        Some(match name {
            "var_pop" => Spread { sample: false, root: false },
            "var_samp" | "variance" => Spread { sample: true, root: false },
            "stddev_pop" => Spread { sample: false, root: true },
            "stddev_samp" | "stddev" => Spread { sample: true, root: true },
            _ => return None,
        })
    }

    /// The answer for `count` values of this sum and sum of squares; None where there are too few. Error `22003`.
    pub fn of(self, count: i64, sum: &Numeric, squares: &Numeric) -> Result<Option<Numeric>, PgError> {
        if count <= i64::from(self.sample) {
            return Ok(None);
        }
        if sum.decimal().is_none() {
            return Ok(Some(Numeric::NaN));
        }
        let numerator = Numeric::from_i64(count).mul(squares)?.sub(&sum.mul(sum)?)?;
        if numerator.is_zero() || numerator.is_negative() {
            return Ok(Some(Numeric::ZERO));
        }
        let divisor = count as i128 * (count - i64::from(self.sample)) as i128;
        let variance = numerator.div(&Numeric::from_i128(divisor))?;
        if self.root { variance.sqrt_at_own_scale().map(Some) } else { Ok(Some(variance)) }
    }
}
