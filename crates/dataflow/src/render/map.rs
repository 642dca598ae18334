//! Stateless stages: filter and projection, selection of columns, negation, hashing for an arrangement.

use repr::Lane;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::{Errors, Rows, stateless};
use crate::errors::ErrorUpdates;
use crate::expression::RowFunction;
use crate::updates::Updates;

/// Filters and projects; rows that fail leave as errors.
pub(crate) fn render<'scope>(rows: Rows<'scope>, function: RowFunction) -> (Rows<'scope>, Errors<'scope>) {
    let mut builder = OperatorBuilder::new("Map".to_owned(), rows.scope());
    let mut input = builder.new_input(rows, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (rows_output, rows) = builder.new_output::<Updates>();
    let (errors_output, errors) = builder.new_output::<ErrorUpdates>();
    let mut rows_output = OutputBuilder::<_, NoopBuilder<Updates>>::from(rows_output);
    let mut errors_output = OutputBuilder::<_, NoopBuilder<ErrorUpdates>>::from(errors_output);
    builder.build(move |_| {
        move |_| {
            let (mut rows, mut errors) = (rows_output.activate(), errors_output.activate());
            input.for_each(|capability, container| {
                let mut failed = ErrorUpdates::new();
                let mut updates = function.apply(std::mem::take(container), &mut failed);
                if !updates.is_empty() {
                    rows.session_with_builder(&capability).give_container(&mut updates);
                }
                if !failed.is_empty() {
                    errors.session_with_builder(&capability).give_container(&mut failed);
                }
            });
        }
    });
    (rows, errors)
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
    stateless(rows, "Negate", |mut updates| {
        updates.diffs = match updates.diffs {
            Lane::Constant(diff, len) => Lane::Constant(-diff, len),
            Lane::Values(diffs) => Lane::Values(diffs.into_iter().map(|diff| -diff).collect()),
        };
        updates
    })
}

/// Fills the hash lanes for an arrangement by `key`.
pub(crate) fn hash(rows: Rows<'_>, key: Vec<usize>) -> Rows<'_> {
    stateless(rows, "Hash", move |mut updates| {
        updates.hash(&key);
        updates
    })
}
