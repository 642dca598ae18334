//! The live error rows of every dataflow, consolidated from what the workers' error streams bring.
//!
//! A row is live while its diffs add up to more than nothing. Past times are folded into one count, except those that a
//! pending peek may still ask about.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use repr::{Diff, ObjectId, Timestamp};

use crate::errors::{ErrorRow, ErrorUpdates};

/// See the module. Locked for moments only.
#[derive(Default)]
pub(crate) struct ErrorRegistry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dataflows: HashMap<ObjectId, HashMap<ErrorRow, History>>,
    /// Times of pending peeks, how many each.
    held: BTreeMap<Timestamp, usize>,
}

/// One error row's count over time.
#[derive(Default)]
struct History {
    /// The count as of the folded times, and since when it has not been nothing.
    count: Diff,
    since: Timestamp,
    /// Later changes, in order of time.
    changes: Vec<(Timestamp, Diff)>,
}

impl History {
    fn add(&mut self, time: Timestamp, diff: Diff) {
        match self.changes.binary_search_by_key(&time, |change| change.0) {
            Ok(index) => self.changes[index].1 += diff,
            Err(index) => self.changes.insert(index, (time, diff)),
        }
    }

    fn fold(&mut self, until: Timestamp) {
        let folded = self.changes.partition_point(|change| change.0 <= until);
        for (time, diff) in self.changes.drain(..folded) {
            if self.count == 0 {
                self.since = time;
            }
            self.count += diff;
        }
        self.changes.retain(|change| change.1 != 0);
    }

    fn count_at(&self, time: Timestamp) -> Diff {
        let changes = self.changes.iter().take_while(|change| change.0 <= time);
        self.count + changes.map(|change| change.1).sum::<Diff>()
    }

    /// The count after all known changes, with the time since which it is not nothing.
    fn live(&self) -> (Diff, Timestamp) {
        let (mut count, mut since) = (self.count, self.since);
        for (time, diff) in &self.changes {
            if count == 0 {
                since = *time;
            }
            count += diff;
        }
        (count, since)
    }

    fn is_nothing(&self) -> bool {
        self.count == 0 && self.changes.is_empty()
    }
}

impl ErrorRegistry {
    /// Adds what a dataflow's error stream brought. Times before `complete` will not change any more.
    pub(crate) fn update(&self, id: ObjectId, updates: ErrorUpdates, complete: Timestamp) {
        let mut state = self.state.lock();
        let held = state.held.keys().next().copied().unwrap_or(Timestamp::MAX);
        let until = complete.saturating_sub(1).min(held);
        let rows = state.dataflows.entry(id).or_default();
        for (row, time, diff) in updates {
            let history = rows.entry(row).or_default();
            history.add(time, diff);
            history.fold(until);
        }
        rows.retain(|_, history| !history.is_nothing());
    }

    /// Counts the error rows of some dataflows as of a time that is held.
    pub(crate) fn count_at(&self, ids: &[ObjectId], time: Timestamp) -> usize {
        let state = self.state.lock();
        let rows = ids.iter().filter_map(|id| state.dataflows.get(id)).flat_map(HashMap::values);
        rows.map(|history| history.count_at(time).max(0) as usize).sum()
    }

    /// Keeps the counts of a time apart until [`ErrorRegistry::release`].
    pub(crate) fn hold(&self, time: Timestamp) {
        *self.state.lock().held.entry(time).or_default() += 1;
    }

    /// Ends a hold.
    pub(crate) fn release(&self, time: Timestamp) {
        let mut state = self.state.lock();
        if let Some(count) = state.held.get_mut(&time) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&time);
            }
        }
    }

    /// Every live error row, by dataflow and age.
    pub(crate) fn live(&self) -> Vec<(ObjectId, ErrorRow, Timestamp, Diff)> {
        let state = self.state.lock();
        let mut live = Vec::new();
        for (id, rows) in &state.dataflows {
            for (row, history) in rows {
                let (count, since) = history.live();
                if count > 0 {
                    live.push((*id, row.clone(), since, count));
                }
            }
        }
        live.sort_by(|a, b| (a.0, a.2, &a.1.row).cmp(&(b.0, b.2, &b.1.row)));
        live
    }

    /// Drops a dataflow's rows.
    pub(crate) fn forget(&self, id: ObjectId) {
        self.state.lock().dataflows.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use repr::SqlState;

    use super::*;

    fn row(text: &str) -> ErrorRow {
        ErrorRow {
            operator: "Map".into(),
            row: text.into(),
            state: SqlState::DIVISION_BY_ZERO,
            message: "division by zero".into(),
        }
    }

    #[test]
    fn a_mended_row_is_gone_and_a_held_time_still_counts_it() {
        let registry = ErrorRegistry::default();
        let id = ObjectId(7);
        registry.update(id, vec![(row("a"), 10, 1), (row("b"), 10, 2)], 11);
        registry.hold(10);
        registry.update(id, vec![(row("a"), 12, -1)], 13);
        assert_eq!(registry.count_at(&[id], 10), 3);
        assert_eq!(registry.count_at(&[id], 12), 2);
        registry.release(10);
        let live = registry.live();
        assert_eq!(live.len(), 1);
        assert_eq!((live[0].1.row.as_str(), live[0].2, live[0].3), ("b", 10, 2));
    }

    #[test]
    fn a_row_that_comes_back_is_live_since_then() {
        let registry = ErrorRegistry::default();
        let id = ObjectId(7);
        registry.update(id, vec![(row("a"), 1, 1), (row("a"), 2, -1), (row("a"), 5, 1)], 6);
        assert_eq!(registry.live()[0].2, 5);
        registry.forget(id);
        assert!(registry.live().is_empty());
    }
}
