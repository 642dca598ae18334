//! When rows will come or go by themselves, so that the time is closed then even if nothing is written.
//!
//! Temporal filters give their successors what will be at once, stamped with the time at which it will; all that is missing
//! then is that time passes. Times are kept by the second: ten million rows that expire within a day are 86,400 entries,
//! and within a second that has some the runtime's timer closes times as often as it looks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use repr::Timestamp;

const SECOND_MS: Timestamp = 1000;

/// The seconds in which something will happen.
#[derive(Debug)]
pub struct Agenda {
    seconds: Mutex<BTreeSet<u64>>,
    /// The first of them; `MAX` where there is none.
    first: AtomicU64,
}

impl Default for Agenda {
    fn default() -> Agenda {
        Agenda { seconds: Mutex::default(), first: AtomicU64::new(u64::MAX) }
    }
}

impl Agenda {
    /// Notes that something will happen at each of `times`.
    pub(crate) fn add(&self, times: impl Iterator<Item = Timestamp>) {
        // Neighbours mostly share a second.
        let mut last = None;
        let mut new = times.map(|time| time / SECOND_MS).filter(|second| last.replace(*second) != Some(*second));
        let Some(first) = new.next() else { return };
        let mut seconds = self.seconds.lock();
        seconds.insert(first);
        seconds.extend(new);
        self.look(&seconds);
    }

    /// Forgets what lies before the second of `closed`.
    pub(crate) fn pass(&self, closed: Timestamp) {
        let second = closed / SECOND_MS;
        if self.first.load(Ordering::Acquire) < second {
            let mut seconds = self.seconds.lock();
            *seconds = seconds.split_off(&second);
            self.look(&seconds);
        }
    }

    /// Whether something happens in the second of `now` or has happened before.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.first.load(Ordering::Acquire) <= now / SECOND_MS
    }

    fn look(&self, seconds: &BTreeSet<u64>) {
        self.first.store(seconds.first().copied().unwrap_or(u64::MAX), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_is_forgotten() {
        let agenda = Agenda::default();
        assert!(!agenda.is_due(5_000));
        agenda.add([7_100, 5_900, 7_200].into_iter());
        assert!(!agenda.is_due(4_999));
        assert!(agenda.is_due(5_000), "the second has begun");
        agenda.pass(5_950);
        assert!(agenda.is_due(5_960), "the second has not ended");
        agenda.pass(6_000);
        assert!(!agenda.is_due(6_999) && agenda.is_due(7_000));
        agenda.pass(8_000);
        assert!(!agenda.is_due(u64::MAX - 1));
    }
}
