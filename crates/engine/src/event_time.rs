//! How far the event time of a whole source or table has come: what closes windows.
//!
//! A table's is the latest that was written, less the delay. Of a source it is the least of its partitions' watermarks, of those that still
//! give rows: one that has given none for a while does not hold windows open (ADR 15). Only this depends on the clock; whether a row is late does not (ADR 13).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use repr::source::{Positions, event_time_key, event_time_partition};
use repr::{ObjectId, Watermark};

/// A partition that has given no row for so long does not hold windows open.
const IDLE: Duration = Duration::from_secs(30);

/// The partitions of a source with a watermark.
pub(crate) struct EventTime {
    watermark: Watermark,
    /// By partition, its position and when that was seen first.
    partitions: HashMap<String, (Option<u64>, Instant)>,
}

impl EventTime {
    pub(crate) fn new(watermark: Watermark) -> EventTime {
        EventTime { watermark, partitions: HashMap::new() }
    }

    /// The watermark at `positions`, reached `now`; None if no partition has given an event time lately.
    pub(crate) fn at(&mut self, positions: &Positions, now: Instant) -> Option<i64> {
        let mut least: Option<i64> = None;
        for partition in positions.keys().filter_map(|key| event_time_partition(key)) {
            let position = positions.get(partition).copied();
            let seen = self.partitions.entry(partition.to_string()).or_insert((position, now));
            if seen.0 != position {
                *seen = (position, now);
            }
            let Some(latest) = positions.get(&event_time_key(partition)) else { continue };
            if now.saturating_duration_since(seen.1) < IDLE {
                let watermark = self.watermark.behind(*latest as i64);
                least = Some(least.map_or(watermark, |least| least.min(watermark)));
            }
        }
        least
    }
}

/// The event time of each table with a watermark. Changed under the write lock.
#[derive(Default)]
pub(crate) struct TableTimes(Mutex<HashMap<ObjectId, TableTime>>);

#[derive(Clone, Copy, Default)]
pub(crate) struct TableTime {
    /// The latest event time written.
    pub(crate) latest: Option<i64>,
    /// Rows left out since the start because they were late.
    pub(crate) late_rows: u64,
}

impl TableTimes {
    pub(crate) fn get(&self, table: ObjectId) -> TableTime {
        self.0.lock().get(&table).copied().unwrap_or_default()
    }

    pub(crate) fn set(&self, table: ObjectId, time: TableTime) {
        self.0.lock().insert(table, time);
    }

    pub(crate) fn forget(&self, table: ObjectId) {
        self.0.lock().remove(&table);
    }

    /// Each table's late rows.
    pub(crate) fn late_rows(&self) -> Vec<(ObjectId, u64)> {
        self.0.lock().iter().map(|(table, time)| (*table, time.late_rows)).collect()
    }
}

#[cfg(test)]
mod tests {
    use repr::LateRows;

    use super::*;

    #[test]
    fn partitions_hold_windows_open_until_they_are_idle() {
        let mut event_time = EventTime::new(Watermark { column: 0, delay: 5, late_rows: LateRows::Drop });
        let start = Instant::now();
        let positions = |a: (u64, u64), b: Option<(u64, u64)>| {
            let of = |name: &str, (position, latest): (u64, u64)| {
                [(name.to_string(), position), (event_time_key(name), latest)]
            };
            let parts = of("a", a).into_iter().chain(b.into_iter().flat_map(|b| of("b", b)));
            parts.collect::<Positions>()
        };
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(event_time.at(&Positions::from([("a".to_string(), 3)]), at(0)), None);
        assert_eq!(event_time.at(&positions((1, 100), None), at(0)), Some(95));
        assert_eq!(event_time.at(&positions((1, 100), Some((1, 20))), at(1)), Some(15));
        assert_eq!(event_time.at(&positions((2, 200), Some((1, 20))), at(30)), Some(15));
        assert_eq!(event_time.at(&positions((3, 300), Some((1, 20))), at(31)), Some(295));
        assert_eq!(event_time.at(&positions((3, 300), Some((2, 20))), at(32)), Some(15), "it is there again");
        assert_eq!(event_time.at(&positions((3, 300), Some((2, 20))), at(100)), None);
    }
}
