//! Load generators: rows made here, each a function of its number and the seed alone, so that a source read again gives the
//! same rows.
//!
//! - `counter`: 1, 2, 3, .. in the one column, one a second unless RATE or TICK INTERVAL say otherwise.
//! - `nexmark`: the auction site of the Nexmark benchmark. Of every 50 events 1 is a person, 3 are auctions and 46 are bids;
//!   the option TABLE says which of them a source gives. Sources with the same seed and rate fit together: bids name auctions
//!   and persons that come.
//!
//! The position is the number of events passed, of all kinds. With a rate the clock says how many events there are by now,
//! counted from when the source was opened; without one they come as fast as they are read.

mod nexmark;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array};
use repr::source::{Positions, SourceDescription};
use repr::text::interval::parse_interval;
use repr::{PgError, SqlState, SqlType};

use crate::options::{OptionDoc, invalid, number, required};
use crate::{BATCH_ROWS_MAX, Connector, Next, Source, SourceBatch};

pub(crate) const CONNECTOR: Connector = Connector {
    name: "load_generator",
    doc: "Rows made by the server: COUNTER counts, NEXMARK is the auction site of the Nexmark benchmark.",
    options: &[
        OptionDoc { name: "generator", doc: "counter or nexmark; said after LOAD GENERATOR." },
        OptionDoc { name: "table", doc: "Which nexmark events: person, auction or bid; bid unless said." },
        OptionDoc { name: "events", doc: "How many events there are, of all kinds. Without end unless said." },
        OptionDoc {
            name: "rate",
            doc: "Events a second, of all kinds. As fast as they are read if EVENTS is said, else 1,000 (counter: 1).",
        },
        OptionDoc { name: "tick_interval", doc: "The time between two events, instead of RATE." },
        OptionDoc { name: "seed", doc: "Another seed gives other nexmark data." },
    ],
    open,
    latest,
    validate,
};

/// The one partition a generator has.
const PARTITION: &str = "events";

/// The seed of the generator that peers are measured with.
const SEED: u64 = 20_261_122;

/// Events looked at in one batch: only some of nexmark's events are rows of a source.
const BATCH_EVENTS_MAX: u64 = 1 << 18;

struct Settings {
    rows: Rows,
    events: Option<u64>,
    /// Events a second.
    rate: Option<f64>,
}

enum Rows {
    Counter { columns: usize },
    Nexmark(nexmark::Generator),
}

fn settings(description: &SourceDescription) -> Result<Settings, PgError> {
    let options = &description.options;
    let events = number::<u64>(options, "events")?;
    let rate = rate(description)?;
    let generator = required("a load generator", options, "generator")?;
    let (rows, default_rate) = match generator {
        "counter" => {
            if let Some(column) = description.schema.columns.iter().find(|column| column.sql_type != SqlType::Int8) {
                let message = format!("column \"{}\" of a counter must be of type bigint", column.name);
                return Err(PgError::new(SqlState::INVALID_TABLE_DEFINITION, message));
            }
            (Rows::Counter { columns: description.schema.columns.len() }, 1.0)
        }
        "nexmark" => {
            let table = options.get("table").map_or("bid", String::as_str);
            let seed = number(options, "seed")?.unwrap_or(SEED);
            let generator = nexmark::Generator::new(table, &description.schema, seed, rate)?;
            (Rows::Nexmark(generator), 1000.0)
        }
        other => {
            let message = format!("load generator \"{other}\" does not exist");
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, message)
                .with_hint("The load generators are counter and nexmark."));
        }
    };
    let rate = if rate.is_none() && events.is_none() { Some(default_rate) } else { rate };
    Ok(Settings { rows, events, rate })
}

fn rate(description: &SourceDescription) -> Result<Option<f64>, PgError> {
    let options = &description.options;
    let positive = |name: &str, rate: f64, text: &str| match rate.is_finite() && rate > 0.0 {
        true => Ok(Some(rate)),
        false => Err(invalid(name, text)),
    };
    match (options.get("rate"), options.get("tick_interval")) {
        (None, None) => Ok(None),
        (Some(text), None) => positive("rate", number::<f64>(options, "rate")?.unwrap_or(0.0), text),
        (None, Some(text)) => {
            let micros = parse_interval(text, -1)?.span();
            positive("tick_interval", 1e6 / micros as f64, text)
        }
        (Some(_), Some(text)) => Err(invalid("tick_interval", text).with_hint("RATE says the same; give one of them.")),
    }
}

fn validate(description: &SourceDescription) -> Result<(), PgError> {
    settings(description).map(drop)
}

fn latest(description: &SourceDescription) -> Result<Positions, PgError> {
    let settings = settings(description)?;
    let ended = match settings.rate {
        None => settings.events.unwrap_or(0),
        Some(_) => 0,
    };
    Ok(Positions::from([(PARTITION.to_string(), ended)]))
}

fn open(description: &SourceDescription, from: &Positions, to: Option<&Positions>) -> Result<Box<dyn Source>, PgError> {
    let settings = settings(description)?;
    let start = from.get(PARTITION).copied().unwrap_or(0);
    let bound = to.map(|to| to.get(PARTITION).copied().unwrap_or(0));
    let end = settings.events.into_iter().chain(bound).min();
    // What was there once is there at once when it is read again.
    let rate = if to.is_some() { None } else { settings.rate };
    Ok(Box::new(LoadGenerator { rows: settings.rows, next: start, start, end, rate, opened: Instant::now() }))
}

struct LoadGenerator {
    rows: Rows,
    next: u64,
    start: u64,
    end: Option<u64>,
    rate: Option<f64>,
    opened: Instant,
}

impl Source for LoadGenerator {
    fn next(&mut self, timeout: Duration) -> Result<Next, PgError> {
        if self.end.is_some_and(|end| self.next >= end) {
            return Ok(Next::End);
        }
        let deadline = Instant::now() + timeout;
        let mut due = self.due();
        while due <= self.next {
            let wait = self.time_of(self.next + 1).saturating_duration_since(Instant::now());
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Next::Idle);
            }
            std::thread::sleep(wait.max(Duration::from_micros(200)).min(left));
            due = self.due();
        }
        let due = due.min(self.end.unwrap_or(u64::MAX));
        let (columns, row_count, next) = match &self.rows {
            Rows::Counter { columns } => {
                let next = due.min(self.next + BATCH_ROWS_MAX as u64);
                let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(self.next as i64 + 1..next as i64 + 1));
                (vec![numbers; *columns], (next - self.next) as usize, next)
            }
            Rows::Nexmark(generator) => generator.rows(self.next, due.min(self.next + BATCH_EVENTS_MAX)),
        };
        let byte_count = columns.iter().map(|column| column.get_array_memory_size()).sum();
        self.next = next;
        let positions = Positions::from([(PARTITION.to_string(), next)]);
        Ok(Next::Batch(SourceBatch {
            columns,
            row_count,
            errors: Vec::new(),
            partitions: vec![(PARTITION.to_string(), row_count)],
            late_rows: 0,
            positions,
            byte_count,
        }))
    }
}

impl LoadGenerator {
    /// The number of events there are by now.
    fn due(&self) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(rate) => self.start.saturating_add((self.opened.elapsed().as_secs_f64() * rate) as u64),
        }
    }

    /// When there are `count` events.
    fn time_of(&self, count: u64) -> Instant {
        let seconds = match self.rate {
            None => 0.0,
            Some(rate) => (count.saturating_sub(self.start)) as f64 / rate,
        };
        const WAIT_SECONDS_MAX: f64 = 3600.0;
        self.opened + Duration::from_secs_f64(seconds.min(WAIT_SECONDS_MAX + self.opened.elapsed().as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use repr::{ColumnSchema, RelationSchema};

    use super::*;

    fn source(options: &[(&str, &str)], columns: &[(&str, SqlType)]) -> SourceDescription {
        SourceDescription {
            watermark: None,
            connector: "load_generator".to_string(),
            options: options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            format: None,
            format_options: Default::default(),
            schema: RelationSchema::new(
                columns.iter().map(|(name, sql_type)| ColumnSchema::new(*name, sql_type.clone())).collect(),
            ),
        }
    }

    fn column(source: &mut dyn Source) -> Vec<i64> {
        let mut values = Vec::new();
        while let Next::Batch(batch) = source.next(Duration::ZERO).unwrap() {
            values.extend(batch.columns[0].as_primitive::<Int64Type>().values());
        }
        values
    }

    #[test]
    fn a_counter_counts_to_its_end_from_anywhere() {
        let counter = source(&[("generator", "counter"), ("events", "40000")], &[("counter", SqlType::Int8)]);
        assert_eq!(column(&mut *open(&counter, &Positions::new(), None).unwrap()), (1..=40_000).collect::<Vec<_>>());
        let from = Positions::from([(PARTITION.to_string(), 39_998)]);
        assert_eq!(column(&mut *open(&counter, &from, None).unwrap()), [39_999, 40_000]);
        assert_eq!(latest(&counter).unwrap()[PARTITION], 40_000);
    }

    #[test]
    fn a_rate_is_kept_by_the_clock() {
        let counter = source(&[("generator", "counter"), ("tick_interval", "1 ms")], &[("counter", SqlType::Int8)]);
        let mut source = open(&counter, &Positions::new(), None).unwrap();
        let started = Instant::now();
        let mut count = 0;
        while count < 50 {
            if let Next::Batch(batch) = source.next(Duration::from_millis(5)).unwrap() {
                count += batch.row_count;
            }
        }
        assert!(started.elapsed() >= Duration::from_millis(49));
    }

    #[test]
    fn nexmark_keeps_its_proportions_and_its_rows_whatever_the_batches() {
        let bids = |table: &'static str, column: &'static str| {
            source(&[("generator", "nexmark"), ("events", "50000"), ("table", table)], &[(column, SqlType::Int8)])
        };
        let rows = |description: &SourceDescription| column(&mut *open(description, &Positions::new(), None).unwrap());
        assert_eq!(rows(&bids("person", "id")).len(), 1_000);
        assert_eq!(rows(&bids("auction", "id")), (1000..4000).collect::<Vec<_>>());
        let whole = rows(&bids("bid", "price"));
        assert_eq!(whole.len(), 46_000);
        let from = Positions::from([(PARTITION.to_string(), 25_003)]);
        let part = column(&mut *open(&bids("bid", "price"), &from, None).unwrap());
        assert!(whole.ends_with(&part) && part.len() > 22_900);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let counter = [("counter", SqlType::Int8)];
        for options in [
            [("generator", "counter"), ("rate", "0")],
            [("generator", "counter"), ("events", "x")],
            [("generator", "clock"), ("rate", "1")],
            [("generator", "nexmark"), ("table", "seller")],
        ] {
            assert!(validate(&source(&options, &counter)).is_err(), "{options:?}");
        }
    }
}
