//! Reads and prints intervals (IntervalStyle `postgres`), and their order.

use arrow::datatypes::IntervalMonthDayNano;

use super::calendar::{DAY, HOUR, MINUTE, SECOND};
use super::datetime::{push_fraction, push_pair};
use crate::{PgError, SqlState};
use std::fmt::Write;

/// An interval as PostgreSQL keeps it: three parts that are not convertible into each other without a calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

fn out_of_range() -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

impl Interval {
    /// From Arrow's form, which has nanoseconds.
    pub fn from_arrow(value: IntervalMonthDayNano) -> Interval {
        Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1000 }
    }

    /// Into Arrow's form. Error `22008` for a time part beyond 292 years, which nanoseconds do not hold.
    pub fn to_arrow(self) -> Result<IntervalMonthDayNano, PgError> {
        let nanoseconds = self.micros.checked_mul(1000).ok_or_else(out_of_range)?;
        Ok(IntervalMonthDayNano::new(self.months, self.days, nanoseconds))
    }

    /// What PostgreSQL compares: microseconds with months of 30 days and days of 24 hours.
    pub fn span(&self) -> i128 {
        (self.months as i128 * 30 + self.days as i128) * DAY as i128 + self.micros as i128
    }

    /// From wide parts. Error `22008`.
    pub fn from_wide(months: i128, days: i128, micros: i128) -> Result<Interval, PgError> {
        Ok(Interval {
            months: months.try_into().map_err(|_| out_of_range())?,
            days: days.try_into().map_err(|_| out_of_range())?,
            micros: micros.try_into().map_err(|_| out_of_range())?,
        })
    }

    /// The sum, part by part. Error `22008`.
    pub fn add(&self, other: &Interval) -> Result<Interval, PgError> {
        Ok(Interval {
            months: self.months.checked_add(other.months).ok_or_else(out_of_range)?,
            days: self.days.checked_add(other.days).ok_or_else(out_of_range)?,
            micros: self.micros.checked_add(other.micros).ok_or_else(out_of_range)?,
        })
    }

    /// The negation. Error `22008`.
    pub fn neg(&self) -> Result<Interval, PgError> {
        Ok(Interval {
            months: self.months.checked_neg().ok_or_else(out_of_range)?,
            days: self.days.checked_neg().ok_or_else(out_of_range)?,
            micros: self.micros.checked_neg().ok_or_else(out_of_range)?,
        })
    }

    /// Times a factor: fractions of months become days, fractions of days become time. Error `22008`.
    pub fn multiply(&self, factor: f64) -> Result<Interval, PgError> {
        self.scale_by(|value| value * factor)
    }

    /// Divided by a divisor that is not zero. Error `22008`.
    pub fn divide(&self, divisor: f64) -> Result<Interval, PgError> {
        self.scale_by(|value| value / divisor)
    }

    fn scale_by(&self, scale: impl Fn(f64) -> f64) -> Result<Interval, PgError> {
        // Rounding to microseconds keeps 0.1's error from showing.
        let tidy = |value: f64| (value * 1e6).round_ties_even() / 1e6;
        let months = scale(self.months as f64);
        let days = scale(self.days as f64);
        let whole_months = to_i32(months)?;
        let whole_days = to_i32(days)?;
        let month_remainder_days = tidy((months - whole_months as f64) * 30.0);
        let mut extra_days = month_remainder_days as i32;
        let mut seconds = tidy((days - whole_days as f64 + month_remainder_days - extra_days as f64) * 86_400.0);
        // Cascade what the rounding made a whole day.
        if seconds.abs() >= 86_400.0 {
            extra_days += (seconds / 86_400.0) as i32;
            seconds -= ((seconds / 86_400.0) as i32) as f64 * 86_400.0;
        }
        let micros = (scale(self.micros as f64) + seconds * 1e6).round_ties_even();
        if !micros.is_finite() || micros.abs() >= 9.2e18 {
            return Err(out_of_range());
        }
        let days = whole_days.checked_add(extra_days).ok_or_else(out_of_range)?;
        Ok(Interval { months: whole_months, days, micros: micros as i64 })
    }

    /// 24 hours become a day, with the time's sign following the days'.
    pub fn justify_hours(&self) -> Interval {
        let mut result = *self;
        result.days += (result.micros / DAY) as i32;
        result.micros %= DAY;
        if result.days > 0 && result.micros < 0 {
            result.micros += DAY;
            result.days -= 1;
        } else if result.days < 0 && result.micros > 0 {
            result.micros -= DAY;
            result.days += 1;
        }
        result
    }

    /// 30 days become a month.
    pub fn justify_days(&self) -> Interval {
        let mut result = *self;
        result.months += result.days / 30;
        result.days %= 30;
        if result.months > 0 && result.days < 0 {
            result.days += 30;
            result.months -= 1;
        } else if result.months < 0 && result.days > 0 {
            result.days -= 30;
            result.months += 1;
        }
        result
    }
}

fn to_i32(value: f64) -> Result<i32, PgError> {
    match value.is_finite() && value.abs() < 2_147_483_648.0 {
        true => Ok(value as i32),
        false => Err(out_of_range()),
    }
}

/// Bits of a typmod's range that say which fields `INTERVAL .. TO ..` keeps, at the positions PostgreSQL gives them.
pub mod field {
    #![allow(missing_docs)]
    pub const MONTH: i32 = 1 << 1;
    pub const YEAR: i32 = 1 << 2;
    pub const DAY: i32 = 1 << 3;
    pub const HOUR: i32 = 1 << 10;
    pub const MINUTE: i32 = 1 << 11;
    pub const SECOND: i32 = 1 << 12;
    pub const ALL: i32 = 0x7FFF;
}

/// Fields and fractional digits that a typmod means; None for no restriction.
fn range_and_precision(typmod: i32) -> (i32, Option<u32>) {
    if typmod < 0 {
        return (field::ALL, None);
    }
    let precision = typmod & 0xFFFF;
    let range = (typmod >> 16) & 0x7FFF;
    (if range == 0 { field::ALL } else { range }, (precision <= 6).then_some(precision as u32))
}

/// Cuts fields below those a typmod names, and rounds the seconds to its precision.
pub fn apply_typmod(interval: Interval, typmod: i32) -> Interval {
    let (range, precision) = range_and_precision(typmod);
    let mut result = interval;
    if range != field::ALL {
        let lowest = |fields: i32| range & fields != 0;
        if lowest(field::SECOND) {
        } else if lowest(field::MINUTE) {
            result.micros -= result.micros % MINUTE;
        } else if lowest(field::HOUR) {
            result.micros -= result.micros % HOUR;
        } else if lowest(field::DAY) {
            result.micros = 0;
        } else if lowest(field::MONTH) {
            (result.days, result.micros) = (0, 0);
        } else {
            result.months -= result.months % 12;
            (result.days, result.micros) = (0, 0);
        }
    }
    if let Some(precision) = precision.filter(|precision| *precision < 6) {
        let unit = 10i64.pow(6 - precision);
        let half = if result.micros < 0 { -unit / 2 } else { unit / 2 };
        result.micros = (result.micros + half) / unit * unit;
    }
    result
}

/// Sums of fields while reading.
#[derive(Default)]
struct Sum {
    months: f64,
    days: i128,
    micros: i128,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Micros(i64),
    Days(i64),
    Months(i64),
}

fn unit_by_name(word: &str) -> Option<Unit> {
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            Unit::Micros(1)
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            Unit::Micros(1000)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Micros(SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Micros(MINUTE),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Micros(HOUR),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return None,
    })
}

impl Sum {
    /// Adds `text` (digits, perhaps a fraction) of a unit; fractions flow into the next smaller unit.
    fn add(&mut self, text: &str, negative: bool, unit: Unit) -> Option<()> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        if whole > i64::MAX as i128 {
            return None;
        }
        let fraction: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
        let (whole, fraction) = if negative { (-whole, -fraction) } else { (whole, fraction) };
        match unit {
            Unit::Micros(size) => {
                self.micros += whole * size as i128 + (fraction * size as f64).round_ties_even() as i128
            }
            Unit::Days(size) => {
                let extra = fraction * size as f64;
                self.days += whole * size as i128 + extra.trunc() as i128;
                self.micros += (extra.fract() * DAY as f64).round_ties_even() as i128;
            }
            Unit::Months(1) => {
                self.months += whole as f64;
                let extra = (fraction * 30.0 * 1e6).round_ties_even() / 1e6;
                self.days += extra.trunc() as i128;
                self.micros += (extra.fract() * DAY as f64).round_ties_even() as i128;
            }
            Unit::Months(size) => {
                self.months += whole as f64 * size as f64 + (fraction * size as f64).round_ties_even()
            }
        }
        Some(())
    }

    fn finish(self) -> Option<Interval> {
        if self.months.abs() > i32::MAX as f64 {
            return None;
        }
        Interval::from_wide(self.months as i128, self.days, self.micros).ok()
    }
}

/// Reads an interval in any of PostgreSQL's input styles. Errors `22007`, `22008`.
///
/// A bare number is in the smallest unit that `typmod` names, seconds by default.
pub fn parse_interval(text: &str, typmod: i32) -> Result<Interval, PgError> {
    let (range, _) = range_and_precision(typmod);
    let interval = match read(text, range) {
        Ok(interval) => interval,
        Err(Fault::Syntax) => {
            return Err(PgError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type interval: \"{text}\""),
            ));
        }
        Err(Fault::Range) => {
            return Err(PgError::new(
                SqlState::INTERVAL_FIELD_OVERFLOW,
                format!("interval field value out of range: \"{text}\""),
            ));
        }
    };
    Ok(apply_typmod(interval, typmod))
}

enum Fault {
    Syntax,
    Range,
}

fn read(text: &str, range: i32) -> Result<Interval, Fault> {
    let lower = text.trim().to_ascii_lowercase();
    if let Some(body) = lower.strip_prefix('p')
        && body.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 't' | '-' | '+' | '.'))
    {
        return read_iso(body).ok_or(Fault::Syntax)?.finish().ok_or(Fault::Range);
    }
    let (body, ago) = match lower.strip_suffix("ago").filter(|body| body.ends_with(|c: char| c.is_ascii_whitespace())) {
        Some(body) => (body.trim_end(), true),
        None => (lower.as_str(), false),
    };
    let sum = read_verbose(body.trim_start_matches('@'), range).ok_or(Fault::Syntax)?;
    let interval = sum.finish().ok_or(Fault::Range)?;
    if ago { interval.neg().map_err(|_| Fault::Range) } else { Ok(interval) }
}

fn read_iso(body: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut in_time = false;
    let mut rest = body;
    let mut count = 0;
    while let Some(first) = rest.chars().next() {
        if first == 't' {
            in_time = true;
            rest = &rest[1..];
            continue;
        }
        let negative = first == '-';
        let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let end = unsigned.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let unit = match (unsigned[end..].chars().next()?, in_time) {
            ('y', false) => Unit::Months(12),
            ('m', false) => Unit::Months(1),
            ('w', false) => Unit::Days(7),
            ('d', false) => Unit::Days(1),
            ('h', true) => Unit::Micros(HOUR),
            ('m', true) => Unit::Micros(MINUTE),
            ('s', true) => Unit::Micros(SECOND),
            _ => return None,
        };
        if end == 0 {
            return None;
        }
        sum.add(&unsigned[..end], negative, unit)?;
        count += 1;
        rest = &unsigned[end + 1..];
    }
    (count > 0).then_some(sum)
}

fn read_verbose(body: &str, range: i32) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut count = 0;
    let mut rest = body.trim_start();
    while !rest.is_empty() {
        let negative = rest.starts_with('-');
        let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start();
        let end =
            unsigned.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':' | '-'))).unwrap_or(unsigned.len());
        let (number, after) = unsigned.split_at(end);
        if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') || number == "." {
            return None;
        }
        count += 1;
        if number.contains(':') {
            sum.micros += read_clock(number, negative, range)?;
            rest = after.trim_start();
            continue;
        }
        if let Some((years, months)) = number.split_once('-') {
            // SQL's year-month form.
            sum.add(years, negative, Unit::Months(12))?;
            sum.add(months, negative, Unit::Months(1))?;
            rest = after.trim_start();
            continue;
        }
        let after = after.trim_start();
        let word_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (word, next) = after.split_at(word_end);
        let unit = match word {
            // A bare number before a clock counts days.
            "" if next.trim_start_matches(['+', '-']).contains(':') => Unit::Days(1),
            "" if !next.is_empty() => return None,
            "" => default_unit(range),
            word => unit_by_name(word)?,
        };
        sum.add(number, negative, unit)?;
        rest = next.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
    }
    (count > 0).then_some(sum)
}

fn default_unit(range: i32) -> Unit {
    if range == field::ALL || range & field::SECOND != 0 {
        Unit::Micros(SECOND)
    } else if range & field::MINUTE != 0 {
        Unit::Micros(MINUTE)
    } else if range & field::HOUR != 0 {
        Unit::Micros(HOUR)
    } else if range & field::DAY != 0 {
        Unit::Days(1)
    } else if range & field::MONTH != 0 {
        Unit::Months(1)
    } else {
        Unit::Months(12)
    }
}

/// `HH:MM`, `HH:MM:SS.f`, and `MM:SS.f`; `MM:SS` too under MINUTE TO SECOND.
fn read_clock(text: &str, negative: bool, range: i32) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<i128> = whole.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let minutes_first = text.contains('.') || range == field::MINUTE | field::SECOND;
    let (hour, minute, second) = match parts[..] {
        [minute, second] if minutes_first => (0, minute, second),
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    if (minute > 59 && parts.len() == 3) || second > 60 {
        return None;
    }
    let fraction: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    let micros = hour * HOUR as i128
        + minute * MINUTE as i128
        + second * SECOND as i128
        + (fraction * 1e6).round_ties_even() as i128;
    Some(if negative { -micros } else { micros })
}

/// Appends an interval as PostgreSQL prints it.
pub fn format_interval(interval: Interval, out: &mut String) {
    let mut zero = true;
    let mut before = false;
    let years = interval.months / 12;
    let months = interval.months % 12;
    for (value, unit) in [(years, "year"), (months, "mon"), (interval.days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if zero { "" } else { " " };
        let plus = if before && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        // Writing into a String cannot fail.
        let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
        before = value < 0;
        zero = false;
    }
    if zero || interval.micros != 0 {
        let magnitude = interval.micros.unsigned_abs() as i128;
        if !zero {
            out.push(' ');
        }
        if interval.micros < 0 {
            out.push('-');
        } else if before {
            out.push('+');
        }
        push_pair((magnitude / HOUR as i128) as i64, out);
        out.push(':');
        push_pair((magnitude % HOUR as i128) as i64 / MINUTE, out);
        out.push(':');
        push_pair((magnitude % MINUTE as i128) as i64 / SECOND, out);
        push_fraction((magnitude % SECOND as i128) as i64, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        let mut out = String::new();
        match parse_interval(text, -1) {
            Ok(interval) => format_interval(interval, &mut out),
            Err(error) => return error.message,
        }
        out
    }

    #[test]
    fn reads_many_spellings() {
        // Every pair was checked against PostgreSQL 15.
        for (text, expected) in [
            ("1 day", "1 day"),
            ("1 year 2 mons 3 days 04:05:06.789", "1 year 2 mons 3 days 04:05:06.789"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("0.5 weeks", "3 days 12:00:00"),
            ("-1 day +02:03:00", "-1 days +02:03:00"),
            ("1 day -1:00", "1 day -01:00:00"),
            ("3 4:05:06", "3 days 04:05:06"),
            ("1-2", "1 year 2 mons"),
            ("@ 1 minute ago", "-00:01:00"),
            ("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
            ("PT0.5S", "00:00:00.5"),
            ("90 minutes", "01:30:00"),
            ("100 hours", "100:00:00"),
            ("5", "00:00:05"),
            ("10s", "00:00:10"),
            ("1.25s", "00:00:01.25"),
            ("150 ms", "00:00:00.15"),
            ("0 days", "00:00:00"),
            ("1 mon -1 day", "1 mon -1 days"),
            ("2 decades", "20 years"),
            ("rubbish", "invalid input syntax for type interval: \"rubbish\""),
            ("1 2", "invalid input syntax for type interval: \"1 2\""),
            ("", "invalid input syntax for type interval: \"\""),
        ] {
            assert_eq!(round_trip(text), expected, "{text:?}");
        }
    }

    #[test]
    fn fractions_flow_down() {
        let month = Interval { months: 1, days: 0, micros: 0 };
        let mut out = String::new();
        format_interval(month.multiply(1.5).unwrap(), &mut out);
        assert_eq!(out, "1 mon 15 days");
        out.clear();
        format_interval(Interval { months: 0, days: 1, micros: 0 }.divide(3.0).unwrap(), &mut out);
        assert_eq!(out, "08:00:00");
    }
}
