//! Stateless stages: filter and projection, selection of columns, negation, hashing for an arrangement.

use super::{Errors, Rows, fallible, stateless};
use crate::expression::RowFunction;
use crate::updates::Updates;

/// Filters and projects; rows that fail leave as errors.
pub(crate) fn render<'scope>(rows: Rows<'scope>, function: RowFunction) -> (Rows<'scope>, Errors<'scope>) {
    fallible(rows, "Map", move |updates, errors| function.apply(updates, errors))
}

/// The columns at `columns`, in that order.
pub(crate) fn select(rows: Rows<'_>, columns: Vec<usize>) -> Rows<'_> {
    stateless(rows, "Select", move |updates| {
        let selected = columns.iter().map(|column| updates.columns[*column].clone()).collect();
        updates.with_columns(selected)
    })
}

/// The same rows with diffs turned round.
pub(crate) fn negate(rows: Rows<'_>) -> Rows<'_> {
    stateless(rows, "Negate", Updates::negated)
}

/// Fills the hash lanes for an arrangement by `key`.
pub(crate) fn hash(rows: Rows<'_>, key: Vec<usize>) -> Rows<'_> {
    stateless(rows, "Hash", move |mut updates| {
        updates.hash(&key);
        updates
    })
}
