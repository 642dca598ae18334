//! At most one row a group: what a scalar subquery promises. A second row is an error for as long as it is there.

use repr::{PgError, SqlState, Timestamp};

use super::group::{ChangedGroup, Live, OutputRows, changed_groups};
use super::{BatchLogic, Output};
use crate::arrange::Batch;
use crate::errors::ErrorRow;

/// Passes groups of one row on.
pub(crate) struct SingleRow {
    key: Vec<usize>,
    operator: String,
}

/// What a group amounts to.
#[derive(Clone, Copy)]
enum State {
    Empty,
    One(Live),
    Many,
}

impl SingleRow {
    /// Groups by `key`; `operator` names it in errors.
    pub(crate) fn new(key: Vec<usize>, operator: String) -> SingleRow {
        SingleRow { key, operator }
    }
}

fn state(group: &ChangedGroup<'_>, until: Option<Timestamp>) -> State {
    let mut rows = group.rows(until);
    match (rows.next(), rows.next()) {
        (None, _) => State::Empty,
        (Some(live), None) if live.count == 1 => State::One(live),
        _ => State::Many,
    }
}

impl BatchLogic for SingleRow {
    fn process(&mut self, prior: &[Batch], novel: &Batch, as_of: Timestamp, output: &mut Output) {
        let mut batches = prior.to_vec();
        batches.push(novel.clone());
        let mut rows = OutputRows::default();
        let problem = PgError::new(
            SqlState::CARDINALITY_VIOLATION,
            "more than one row returned by a subquery used as an expression",
        );
        let Output { updates, errors } = output;
        changed_groups(&batches, &self.key, as_of, |group| {
            let key: Vec<_> = self.key.iter().map(|column| group.sample.value(group.batches, *column)).collect();
            let error = || {
                let columns: Vec<_> = key.iter().map(|(column, row)| column.slice(*row, 1)).collect();
                ErrorRow::new(&self.operator, &columns, 0, &problem)
            };
            let mut before = state(&group, None);
            for time in group.times {
                let after = state(&group, Some(*time));
                match (before, after) {
                    (State::One(old), State::One(new)) if old.hash == new.hash => {}
                    (State::Many, State::Many) => {}
                    _ => {
                        for (state, diff) in [(before, -1), (after, 1)] {
                            match state {
                                State::Empty => {}
                                State::One(live) => rows.push(group.batches, live.place, *time, diff, updates),
                                State::Many => errors.push((error(), *time, diff)),
                            }
                        }
                    }
                }
                before = after;
            }
        });
        rows.flush(updates);
    }
}
