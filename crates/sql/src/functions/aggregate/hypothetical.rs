//! `rank`, `dense_rank`, `percent_rank` and `cume_dist` WITHIN GROUP: where a row would stand if it were in the group.
//!
//! In the plan they are calls of the row's values and then of what ORDER BY names, ordered by the latter.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, make_comparator};
use datafusion::common::ScalarValue;
use repr::PgError;

use super::Shape;

/// Whether an aggregate ranks a row that is not there.
pub(crate) fn is_hypothetical(name: &str) -> bool {
    matches!(name, "rank" | "dense_rank" | "percent_rank" | "cume_dist")
}

/// What it says of a row in a group that is empty otherwise.
pub(super) fn of_nothing(name: &str) -> ScalarValue {
    match name {
        "percent_rank" => ScalarValue::Float64(Some(0.0)),
        "cume_dist" => ScalarValue::Float64(Some(1.0)),
        _ => ScalarValue::Int64(Some(1)),
    }
}

/// The value of a group whose rows are `rows`: the arguments, then what ORDER BY names, by which they are sorted.
pub(super) fn answer(name: &'static str, shape: &Shape, rows: &[ArrayRef]) -> Result<ArrayRef, PgError> {
    let (arguments, sorted) = rows.split_at(shape.arguments.len());
    let row_count = arguments[0].len();
    let mut comparators = Vec::new();
    let mut peers = Vec::new();
    for ((column, (_, options)), row) in sorted.iter().zip(&shape.order).zip(arguments) {
        let comparator = |other: &ArrayRef| {
            make_comparator(column, other, *options).map_err(|error| PgError::internal(error.to_string()))
        };
        comparators.push(comparator(row)?);
        peers.push(comparator(column)?);
    }
    // Every row has the hypothetical one's values beside it.
    let compared = |row: usize| comparators.iter().map(|compare| compare(row, row)).find(|found| found.is_ne());
    let before = (0..row_count).take_while(|row| compared(*row).is_some_and(|found| found.is_lt())).count();
    let with_peers = (0..row_count).take_while(|row| compared(*row).is_none_or(|found| found.is_lt())).count();
    let starts = |row: &usize| *row == 0 || peers.iter().any(|compare| compare(row - 1, *row).is_ne());
    Ok(match name {
        "rank" => Arc::new(Int64Array::from(vec![before as i64 + 1])),
        "dense_rank" => Arc::new(Int64Array::from(vec![(0..before).filter(starts).count() as i64 + 1])),
        "percent_rank" if row_count == 0 => Arc::new(Float64Array::from(vec![0.0])),
        "percent_rank" => Arc::new(Float64Array::from(vec![before as f64 / row_count as f64])),
        _ => Arc::new(Float64Array::from(vec![(with_peers + 1) as f64 / (row_count + 1) as f64])),
    })
}
