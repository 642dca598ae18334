//! Aggregates of pairs of doubles: covariance, correlation and the regression line, by Youngs and Cramer's recurrence as
//! PostgreSQL has it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::Float64Type;
use repr::{PgError, SqlState};

/// Whether an aggregate takes pairs `(Y, X)`.
pub(crate) fn is_regression(name: &str) -> bool {
    matches!(name, "corr" | "covar_pop" | "covar_samp") || name.starts_with("regr_")
}

/// What the pairs come to.
#[derive(Default)]
struct Sums {
    count: f64,
    x: f64,
    xx: f64,
    y: f64,
    yy: f64,
    xy: f64,
}

/// The value of a group whose rows are `rows`: Y, then X. Pairs with a NULL do not count. Error `22003`.
pub(super) fn answer(name: &'static str, rows: &[ArrayRef]) -> Result<ArrayRef, PgError> {
    let (y, x) = (rows[0].as_primitive::<Float64Type>(), rows[1].as_primitive::<Float64Type>());
    let mut sums = Sums::default();
    for row in (0..y.len()).filter(|row| y.is_valid(*row) && x.is_valid(*row)) {
        sums.add(y.value(row), x.value(row))?;
    }
    if name == "regr_count" {
        return Ok(Arc::new(Int64Array::from(vec![sums.count as i64])));
    }
    Ok(Arc::new(Float64Array::from(vec![sums.answer(name)])))
}

impl Sums {
    fn add(&mut self, y: f64, x: f64) -> Result<(), PgError> {
        let (x_before, y_before) = (self.x, self.y);
        self.count += 1.0;
        self.x += x;
        self.y += y;
        if self.count == 1.0 {
            if !x.is_finite() {
                (self.xx, self.xy) = (f64::NAN, f64::NAN);
            }
            if !y.is_finite() {
                (self.yy, self.xy) = (f64::NAN, f64::NAN);
            }
            return Ok(());
        }
        let (from_x, from_y) = (x * self.count - self.x, y * self.count - self.y);
        let scale = 1.0 / (self.count * (self.count - 1.0));
        self.xx += from_x * from_x * scale;
        self.yy += from_y * from_y * scale;
        self.xy += from_x * from_y * scale;
        let finite = |before: f64, value: f64| !before.is_infinite() && !value.is_infinite();
        let (finite_x, finite_y) = (finite(x_before, x), finite(y_before, y));
        let overflows = (finite_x && (self.x.is_infinite() || self.xx.is_infinite()))
            || (finite_y && (self.y.is_infinite() || self.yy.is_infinite()))
            || (finite_x && finite_y && self.xy.is_infinite());
        if overflows {
            return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
        }
        for sum in [&mut self.xx, &mut self.yy, &mut self.xy] {
            if sum.is_infinite() {
                *sum = f64::NAN;
            }
        }
        Ok(())
    }

    /// None where there are too few pairs, or no line through them.
    fn answer(&self, name: &str) -> Option<f64> {
        let Sums { count, x, xx, y, yy, xy } = *self;
        if count < 1.0 || (count < 2.0 && name == "covar_samp") {
            return None;
        }
        match name {
            "regr_sxx" => Some(xx),
            "regr_syy" => Some(yy),
            "regr_sxy" => Some(xy),
            "regr_avgx" => Some(x / count),
            "regr_avgy" => Some(y / count),
            "covar_pop" => Some(xy / count),
            "covar_samp" => Some(xy / (count - 1.0)),
            "corr" if xx == 0.0 || yy == 0.0 => None,
            "corr" => Some(xy / (xx * yy).sqrt()),
            _ if xx == 0.0 => None,
            "regr_r2" if yy == 0.0 => Some(1.0),
            "regr_r2" => Some((xy * xy) / (xx * yy)),
            "regr_slope" => Some(xy / xx),
            _ => Some((y - x * xy / xx) / count),
        }
    }
}
