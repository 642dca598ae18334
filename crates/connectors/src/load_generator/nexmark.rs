//! Nexmark's persons, auctions and bids.
//!
//! Every random value is a hash of the seed, a stream (one for each use) and the event's number, so that a column can be made
//! without the others and any row without those before it. Event time starts at 2026-01-01 and goes on by the rate, or at
//! 10,000 events a second.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringBuilder, TimestampMicrosecondArray};
use repr::{PgError, RelationSchema, SqlState, SqlType};

use crate::BATCH_ROWS_MAX;

const START_MICROS: i64 = 1_767_225_600_000_000;
const EVENTS_A_SECOND: f64 = 10_000.0;
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

const PERIOD: u64 = 50;
const FIRST_AUCTION: u64 = 1;
const FIRST_BID: u64 = 4;
const AUCTIONS: i64 = 3;
const FIRST_ID: i64 = 1000;
/// One of so many auctions, or persons, is the hot one that most others go to.
const HOT: i64 = 100;

pub(super) struct Generator {
    kind: Kind,
    columns: Vec<Column>,
    seed: u64,
    micros_an_event: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Person,
    Auction,
    Bid,
}

#[derive(Clone, Copy)]
enum Column {
    Integer(fn(&Values, u64) -> i64),
    Time(fn(&Values, u64) -> i64),
    Text(fn(&Values, u64, &mut String)),
}

/// What a column's values are made from.
struct Values {
    seed: u64,
    micros_an_event: f64,
}

impl Generator {
    /// Errors: 22023 for an unknown table, 42703 for a column it does not have, 42804 for one of another type.
    pub(super) fn new(
        table: &str,
        schema: &RelationSchema,
        seed: u64,
        rate: Option<f64>,
    ) -> Result<Generator, PgError> {
        let kind = match table {
            "person" => Kind::Person,
            "auction" => Kind::Auction,
            "bid" => Kind::Bid,
            other => {
                let message = format!("nexmark has no table \"{other}\"");
                return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
                    .with_hint("Its tables are person, auction and bid."));
            }
        };
        let mut columns = Vec::new();
        for column in &schema.columns {
            let found = column_named(kind, &column.name).ok_or_else(|| {
                let message = format!("nexmark's {table} has no column \"{}\"", column.name);
                PgError::new(SqlState::UNDEFINED_COLUMN, message)
            })?;
            let sql_type = match found {
                Column::Integer(_) => SqlType::Int8,
                Column::Time(_) => SqlType::Timestamp,
                Column::Text(_) => SqlType::Text,
            };
            if column.sql_type != sql_type {
                let message = format!("column \"{}\" of nexmark is of type {}", column.name, sql_type.sql_name());
                return Err(PgError::new(SqlState::DATATYPE_MISMATCH, message));
            }
            columns.push(found);
        }
        Ok(Generator { kind, columns, seed, micros_an_event: 1e6 / rate.unwrap_or(EVENTS_A_SECOND) })
    }

    /// The rows among the events from `start` on, up to `end` or a batch full: columns, how many rows, the next event.
    pub(super) fn rows(&self, start: u64, end: u64) -> (Vec<ArrayRef>, usize, u64) {
        let mut events = Vec::new();
        let mut next = start;
        while next < end && events.len() < BATCH_ROWS_MAX {
            if kind_of(next) == self.kind {
                events.push(next);
            }
            next += 1;
        }
        let values = Values { seed: self.seed, micros_an_event: self.micros_an_event };
        let columns = self.columns.iter().map(|column| match column {
            Column::Integer(value) => {
                Arc::new(Int64Array::from_iter_values(events.iter().map(|event| value(&values, *event)))) as ArrayRef
            }
            Column::Time(value) => {
                let times = events.iter().map(|event| value(&values, *event));
                Arc::new(TimestampMicrosecondArray::from_iter_values(times))
            }
            Column::Text(value) => {
                let mut builder = StringBuilder::new();
                let mut text = String::new();
                for event in &events {
                    text.clear();
                    value(&values, *event, &mut text);
                    builder.append_value(&text);
                }
                Arc::new(builder.finish())
            }
        });
        (columns.collect(), events.len(), next)
    }
}

fn kind_of(event: u64) -> Kind {
    match event % PERIOD {
        0..FIRST_AUCTION => Kind::Person,
        FIRST_AUCTION..FIRST_BID => Kind::Auction,
        _ => Kind::Bid,
    }
}

/// How a column is made. Writing into a String cannot fail, hence the ignored results.
fn column_named(kind: Kind, name: &str) -> Option<Column> {
    use Column::{Integer, Text, Time};
    Some(match (kind, name) {
        (_, "date_time") => Time(|values, event| values.time(event)),
        (Kind::Person, "id") => Integer(|_, event| FIRST_ID + last_person(event)),
        (Kind::Person, "name") => Text(|values, event, out| {
            let _ = write!(out, "{} {}", values.one_of(10, event, &FIRST_NAMES), values.one_of(11, event, &LAST_NAMES));
        }),
        (Kind::Person, "email_address") => Text(|values, event, out| {
            values.letters(12, event, 10, out);
            out.push_str("@example.com");
        }),
        (Kind::Person, "credit_card") => Text(|values, event, out| {
            let _ = write!(out, "{:016}", values.below(13, event, 10_000_000_000_000_000));
        }),
        (Kind::Person, "city") => Text(|values, event, out| out.push_str(values.one_of(14, event, &CITIES))),
        (Kind::Person, "state") => Text(|values, event, out| out.push_str(values.one_of(15, event, &STATES))),
        (Kind::Person, "extra") => Text(|values, event, out| values.letters(16, event, 40, out)),
        (Kind::Auction, "id") => Integer(|_, event| FIRST_ID + last_auction(event)),
        (Kind::Auction, "item_name") => Text(|values, event, out| values.letters(25, event, 12, out)),
        (Kind::Auction, "description") => Text(|values, event, out| values.letters(26, event, 60, out)),
        (Kind::Auction, "initial_bid") => Integer(|values, event| values.price(23, event)),
        (Kind::Auction, "reserve") => Integer(|values, event| values.price(23, event) + values.price(24, event)),
        (Kind::Auction, "expires") => Time(|values, event| values.expiry(event)),
        (Kind::Auction, "seller") => Integer(|values, event| match values.below(20, event, 4) {
            0 => FIRST_ID + values.any_person(21, event),
            _ => FIRST_ID + last_person(event) / HOT * HOT,
        }),
        (Kind::Auction, "category") => Integer(|values, event| 10 + values.below(27, event, 5)),
        (Kind::Auction, "extra") => Text(|values, event, out| values.letters(28, event, 40, out)),
        (Kind::Bid, "auction") => Integer(|values, event| FIRST_ID + values.bid_auction(event)),
        (Kind::Bid, "bidder") => Integer(|values, event| match values.below(32, event, 4) {
            0 => FIRST_ID + values.any_person(33, event),
            _ => FIRST_ID + last_person(event) / HOT * HOT + 1,
        }),
        (Kind::Bid, "price") => Integer(|values, event| values.price(34, event)),
        (Kind::Bid, "channel") => Text(|values, event, out| match values.below(35, event, 10_000) {
            channel @ 0..5000 => out.push_str(CHANNELS[channel as usize % CHANNELS.len()]),
            channel => {
                let _ = write!(out, "channel-{channel}");
            }
        }),
        (Kind::Bid, "url") => Text(|values, event, out| {
            out.push_str("https://www.nexmark.example/");
            values.letters(37, event, 8, out);
            let _ = write!(out, "/item.htm?query=1&channel_id={}", values.below(35, event, 10_000));
        }),
        (Kind::Bid, "extra") => Text(|values, event, out| values.letters(37, event, 20, out)),
        _ => return None,
    })
}

/// The number of the last person by `event`.
fn last_person(event: u64) -> i64 {
    (event / PERIOD) as i64
}

/// The number of the last auction by `event`; -1 before the first.
fn last_auction(event: u64) -> i64 {
    let period = (event / PERIOD) as i64 * AUCTIONS;
    match event % PERIOD {
        0..FIRST_AUCTION => period - 1,
        offset @ FIRST_AUCTION..FIRST_BID => period + (offset - FIRST_AUCTION) as i64,
        _ => period + AUCTIONS - 1,
    }
}

impl Values {
    fn random(&self, stream: u64, index: u64) -> u64 {
        mix(mix(index) ^ mix(self.seed.wrapping_mul(1000).wrapping_add(stream)))
    }

    fn below(&self, stream: u64, index: u64, bound: i64) -> i64 {
        (self.random(stream, index) % bound.max(1) as u64) as i64
    }

    fn one_of<'a>(&self, stream: u64, index: u64, values: &[&'a str]) -> &'a str {
        values[self.below(stream, index, values.len() as i64) as usize]
    }

    fn letters(&self, stream: u64, index: u64, count: u64, out: &mut String) {
        let letter =
            |at: u64| (b'a' + (self.random(stream, index.wrapping_mul(64).wrapping_add(at)) % 26) as u8) as char;
        out.extend((0..count).map(letter));
    }

    /// Between 1.00 and 1,000,000.00 in cents, each order of magnitude as likely as the others.
    fn price(&self, stream: u64, index: u64) -> i64 {
        let unit = (self.random(stream, index) >> 11) as f64 / (1u64 << 53) as f64;
        (10f64.powf(unit * 6.0) * 100.0).round_ties_even() as i64
    }

    fn time(&self, event: u64) -> i64 {
        // Whole milliseconds, as the benchmark's times are.
        START_MICROS + (event as f64 * self.micros_an_event / 1000.0) as i64 * 1000
    }

    fn expiry(&self, event: u64) -> i64 {
        let horizon = (self.time(event + 100 * PERIOD / AUCTIONS as u64) - self.time(event)) / 1000;
        self.time(event) + (1 + self.below(22, event, (horizon * 2).max(1))) * 1000
    }

    /// One of the last thousand persons, or one of the next ten.
    fn any_person(&self, stream: u64, event: u64) -> i64 {
        let count = last_person(event) + 1;
        let active = count.min(1000);
        count - active + self.below(stream, event, active + 10)
    }

    /// Half of the bids go to the hot auction, the others to one of the last hundred or the next ten.
    fn bid_auction(&self, event: u64) -> i64 {
        let last = last_auction(event);
        if self.below(30, event, 2) > 0 {
            return last / HOT * HOT;
        }
        let first = (last - 100).max(0);
        first + self.below(31, event, last - first + 1 + 10)
    }
}

/// The finalizer of splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
