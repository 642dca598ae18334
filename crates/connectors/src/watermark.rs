//! A source with a watermark: follows the event time of each partition, and leaves out rows that are late.
//!
//! It stands between the connector and everyone who reads: views, histories and one-shot queries find the same rows late,
//! because lateness is decided within a partition (see [`repr::Watermark`]). What it knows goes with the positions, so reading
//! that goes on from a place goes on from the event time of that place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use repr::source::{Positions, event_time_key, event_time_partition};
use repr::{LateRows, PgError, Watermark};

use super::{Next, Source, SourceBatch};

/// See the module.
pub(crate) struct Watermarked {
    inner: Box<dyn Source>,
    watermark: Watermark,
    /// The latest event time of each partition.
    latest: BTreeMap<String, i64>,
}

impl Watermarked {
    /// Opens a connector's source by `open`, which gets positions without event times.
    pub(crate) fn open(
        watermark: Watermark,
        from: &Positions,
        to: Option<&Positions>,
        open: impl FnOnce(&Positions, Option<&Positions>) -> Result<Box<dyn Source>, PgError>,
    ) -> Result<Box<dyn Source>, PgError> {
        let inner = open(&positions_only(from), to.map(positions_only).as_ref())?;
        let latest = from.iter().filter_map(|(key, time)| Some((event_time_partition(key)?.to_string(), *time as i64)));
        Ok(Box::new(Watermarked { inner, watermark, latest: latest.collect() }))
    }

    /// Follows the event times of a batch; which rows are on time, if any is late.
    fn follow(&mut self, batch: &SourceBatch) -> Result<Option<BooleanArray>, PgError> {
        let times = self.watermark.event_times(&batch.columns)?;
        let mut on_time: Vec<bool> = Vec::new();
        let mut start = 0;
        for (partition, row_count) in &batch.partitions {
            let mut latest = self.latest.get(partition).copied();
            for row in self.watermark.follow(&times.slice(start, *row_count), &mut latest) {
                on_time.resize(batch.row_count, true);
                on_time[start + row] = false;
            }
            start += row_count;
            if let Some(latest) = latest {
                self.latest.insert(partition.clone(), latest);
            }
        }
        Ok((!on_time.is_empty()).then(|| BooleanArray::from(on_time)))
    }
}

impl Source for Watermarked {
    fn next(&mut self, timeout: Duration) -> Result<Next, PgError> {
        let mut batch = match self.inner.next(timeout)? {
            Next::Batch(batch) => batch,
            other => return Ok(other),
        };
        let on_time = self.follow(&batch)?;
        let kept = match (self.watermark.late_rows, on_time) {
            (LateRows::Apply, _) | (LateRows::Drop, None) => None,
            (LateRows::Drop, Some(on_time)) => {
                batch.late_rows = batch.row_count - on_time.true_count();
                Some(on_time)
            }
            (LateRows::Only, Some(on_time)) => Some(BooleanArray::new(!on_time.values(), None)),
            (LateRows::Only, None) => Some(BooleanArray::from(vec![false; batch.row_count])),
        };
        if let Some(kept) = kept {
            batch.row_count = kept.true_count();
            batch.partitions.clear();
            let columns: Result<Vec<ArrayRef>, _> = batch.columns.iter().map(|column| filter(column, &kept)).collect();
            batch.columns = columns.map_err(|error| PgError::internal(error.to_string()))?;
        }
        let times = self.latest.iter().map(|(partition, time)| (event_time_key(partition), *time as u64));
        batch.positions.extend(times);
        Ok(Next::Batch(batch))
    }

    fn read_only(&mut self, columns: &BTreeSet<usize>) {
        let mut columns = columns.clone();
        columns.insert(self.watermark.column);
        self.inner.read_only(&columns);
    }
}

fn positions_only(positions: &Positions) -> Positions {
    positions
        .iter()
        .filter(|(key, _)| event_time_partition(key).is_none())
        .map(|(key, at)| (key.clone(), *at))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    /// Batches of `(partition, event time)` rows, one after the other.
    struct Given(Vec<Vec<(&'static str, Option<i64>)>>);

    impl Source for Given {
        fn next(&mut self, _: Duration) -> Result<Next, PgError> {
            if self.0.is_empty() {
                return Ok(Next::End);
            }
            let rows = self.0.remove(0);
            let times: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.1)));
            Ok(Next::Batch(SourceBatch {
                columns: vec![times],
                row_count: rows.len(),
                errors: Vec::new(),
                partitions: rows.iter().map(|row| (row.0.to_string(), 1)).collect(),
                late_rows: 0,
                positions: Positions::from([("a".to_string(), rows.len() as u64)]),
                byte_count: 0,
            }))
        }
    }

    fn read(
        late_rows: LateRows,
        from: &Positions,
        given: Vec<Vec<(&'static str, Option<i64>)>>,
    ) -> (Vec<Option<i64>>, usize, Positions) {
        let watermark = Watermark { column: 0, delay: 5, late_rows };
        let opened = Watermarked::open(watermark, from, None, |from, _| {
            assert!(from.keys().all(|key| event_time_partition(key).is_none()), "the connector knows nothing of times");
            Ok(Box::new(Given(given)))
        });
        let mut source = opened.expect("it opens");
        let (mut times, mut late, mut positions) = (Vec::new(), 0, Positions::new());
        while let Next::Batch(batch) = source.next(Duration::ZERO).expect("it reads") {
            assert_eq!(batch.columns[0].len(), batch.row_count);
            times.extend(batch.columns[0].as_primitive::<Int64Type>().iter());
            late += batch.late_rows;
            positions = batch.positions;
        }
        (times, late, positions)
    }

    #[test]
    fn a_row_is_late_behind_its_own_partition() {
        let rows = vec![
            vec![("a", Some(100)), ("b", Some(10)), ("a", Some(95)), ("a", Some(94)), ("b", Some(20)), ("a", None)],
            vec![("b", Some(15)), ("b", Some(14)), ("a", Some(90)), ("a", Some(101))],
        ];
        let (times, late, positions) = read(LateRows::Drop, &Positions::new(), rows.clone());
        assert_eq!(times, [Some(100), Some(10), Some(95), Some(20), None, Some(15), Some(101)]);
        assert_eq!(late, 3);
        assert_eq!(positions.get(&event_time_key("a")), Some(&101));
        assert_eq!(positions.get(&event_time_key("b")), Some(&20));
        let (times, late, _) = read(LateRows::Apply, &Positions::new(), rows.clone());
        assert_eq!((times.len(), late), (10, 0));
        let (times, late, positions) = read(LateRows::Only, &Positions::new(), rows);
        assert_eq!((times, late), (vec![Some(94), Some(14), Some(90)], 0));
        assert_eq!(positions.get(&event_time_key("a")), Some(&101));
    }

    #[test]
    fn reading_on_finds_the_same_rows_late() {
        let before = vec![vec![("a", Some(-7)), ("a", Some(-20))]];
        let (times, late, positions) = read(LateRows::Drop, &Positions::new(), before);
        assert_eq!((times, late), (vec![Some(-7)], 1));
        let (times, late, _) = read(LateRows::Drop, &positions, vec![vec![("a", Some(-13)), ("a", Some(-12))]]);
        assert_eq!((times, late), (vec![Some(-12)], 1));
    }
}
