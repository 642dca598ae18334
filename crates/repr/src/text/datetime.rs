//! Reads and prints dates, times and timestamps: DateStyle `ISO, MDY`.

use std::fmt::Write;

use super::calendar::{self, DAY, HOUR, MINUTE, SECOND, TimeZone};
use crate::{PgError, SqlState};

/// What a text says, before a type picks from it.
#[derive(Clone, Debug, Default)]
struct Reading {
    /// Year (0 is 1 BC), month, day.
    date: Option<(i64, i64, i64)>,
    /// Microseconds; 24:00 included.
    time: Option<i64>,
    zone: Option<TimeZone>,
    special: Option<Special>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Special {
    Infinity,
    NegativeInfinity,
    Epoch,
}

enum Fault {
    Syntax,
    Range,
    Month,
    Unsupported,
}

fn report(fault: Fault, type_name: &str, text: &str) -> PgError {
    match fault {
        Fault::Syntax => PgError::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        ),
        Fault::Range => {
            PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
        }
        Fault::Month => {
            report(Fault::Range, type_name, text).with_hint("Perhaps you need a different \"datestyle\" setting.")
        }
        Fault::Unsupported => PgError::unsupported(format!("the value \"{text}\", which depends on when it is read,")),
    }
}

/// Reads a date: days since the epoch. Errors `22007`, `22008`.
pub fn parse_date(text: &str) -> Result<i32, PgError> {
    let reading = read(text).map_err(|fault| report(fault, "date", text))?;
    match (reading.special, reading.date) {
        (Some(Special::Infinity), _) => Ok(calendar::DATE_INFINITY),
        (Some(Special::NegativeInfinity), _) => Ok(calendar::DATE_NEGATIVE_INFINITY),
        (Some(Special::Epoch), _) => Ok(0),
        (None, Some((year, month, day))) => {
            let days = calendar::days_from_civil(year, month, day);
            match (calendar::DATE_MIN..=calendar::DATE_MAX).contains(&days) {
                true => Ok(days as i32),
                false => Err(PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: \"{text}\""))),
            }
        }
        (None, None) => Err(report(Fault::Syntax, "date", text)),
    }
}

/// Reads a time of day: microseconds since midnight. Errors `22007`, `22008`.
pub fn parse_time(text: &str) -> Result<i64, PgError> {
    let reading = read(text).map_err(|fault| report(fault, "time", text))?;
    match (reading.special, reading.time) {
        (None, Some(time)) => Ok(time),
        _ => Err(report(Fault::Syntax, "time", text)),
    }
}

/// Reads a timestamp without time zone, ignoring a zone in the text. Errors `22007`, `22008`.
pub fn parse_timestamp(text: &str) -> Result<i64, PgError> {
    let reading = read(text).map_err(|fault| report(fault, "timestamp", text))?;
    local_timestamp(&reading, "timestamp", text)
}

/// Reads a timestamp with time zone: an instant. `zone` is where the text means if it does not say. Errors `22007`, `22008`.
pub fn parse_timestamptz(text: &str, zone: &TimeZone) -> Result<i64, PgError> {
    let reading = read(text).map_err(|fault| report(fault, "timestamp with time zone", text))?;
    let local = local_timestamp(&reading, "timestamp with time zone", text)?;
    if reading.special.is_some() {
        return Ok(local);
    }
    Ok(reading.zone.as_ref().unwrap_or(zone).from_local(local))
}

fn local_timestamp(reading: &Reading, type_name: &str, text: &str) -> Result<i64, PgError> {
    match (reading.special, reading.date) {
        (Some(Special::Infinity), _) => Ok(calendar::INFINITY),
        (Some(Special::NegativeInfinity), _) => Ok(calendar::NEGATIVE_INFINITY),
        (Some(Special::Epoch), _) => Ok(0),
        (None, Some((year, month, day))) => {
            let days = calendar::days_from_civil(year, month, day);
            calendar::join_timestamp(days, reading.time.unwrap_or(0)).ok_or_else(|| {
                PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("timestamp out of range: \"{text}\""))
            })
        }
        (None, None) => Err(report(Fault::Syntax, type_name, text)),
    }
}

fn read(text: &str) -> Result<Reading, Fault> {
    match read_iso(text.as_bytes()) {
        Some(reading) => Ok(reading),
        None => read_any(text),
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + (byte - b'0') as i64))
}

/// The form nearly all data has: `YYYY-MM-DD[( |T)HH:MM:SS[.ffffff]][Z]`, valid in every field.
fn read_iso(bytes: &[u8]) -> Option<Reading> {
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > calendar::days_in_month(year, month) {
        return None;
    }
    let mut reading = Reading { date: Some((year, month, day)), ..Reading::default() };
    if bytes.len() == 10 {
        return Some(reading);
    }
    if bytes.len() < 19 || !matches!(bytes[10], b' ' | b'T') || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &bytes[19..];
    let mut time = hour * HOUR + minute * MINUTE + second * SECOND;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 || length > 6 {
            return None;
        }
        time += digits(&fraction[..length])? * 10i64.pow(6 - length as u32);
        rest = &fraction[length..];
    }
    reading.time = Some(time);
    match rest {
        b"" => Some(reading),
        b"Z" | b"+00" | b"+00:00" => {
            reading.zone = Some(TimeZone::UTC);
            Some(reading)
        }
        _ => None,
    }
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// The month a name or an abbreviation of three letters (or `sept`) means.
pub(crate) fn month_by_name(word: &str) -> Option<i64> {
    MONTHS
        .iter()
        .position(|month| {
            *month == word || (word.len() == 3 && month.starts_with(word)) || (word == "sept" && *month == "september")
        })
        .map(|index| index as i64 + 1)
}

fn is_day_name(word: &str) -> bool {
    word.len() >= 3 && DAYS.iter().any(|day| day.starts_with(word))
}

/// Fields found so far by the general reader.
#[derive(Default)]
struct Fields {
    reading: Reading,
    /// Numbers that are a day or a year, in the order read, with their digit counts.
    loose: Vec<(i64, usize)>,
    month: Option<i64>,
    bc: bool,
    pm: Option<bool>,
    expects_time: bool,
}

fn read_any(text: &str) -> Result<Reading, Fault> {
    let lower = text.trim().to_ascii_lowercase();
    let special = match lower.as_str() {
        "" => return Err(Fault::Syntax),
        "infinity" | "+infinity" | "inf" | "+inf" => Some(Special::Infinity),
        "-infinity" | "-inf" => Some(Special::NegativeInfinity),
        "epoch" => Some(Special::Epoch),
        "now" | "today" | "tomorrow" | "yesterday" => return Err(Fault::Unsupported),
        _ => None,
    };
    if special.is_some() {
        return Ok(Reading { special, ..Reading::default() });
    }
    let mut fields = Fields::default();
    let mut rest = lower.as_str();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        let Some(first) = rest.chars().next() else { break };
        rest = match first {
            '0'..='9' => read_number(rest, &mut fields)?,
            '+' | '-' => read_offset(rest, &mut fields)?,
            c if c.is_ascii_alphabetic() => read_word(rest, &mut fields)?,
            _ => return Err(Fault::Syntax),
        };
    }
    settle(fields)
}

fn span(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !accept(c)).unwrap_or(text.len()))
}

fn read_number<'a>(text: &'a str, fields: &mut Fields) -> Result<&'a str, Fault> {
    let (number, after) = span(text, |c| c.is_ascii_digit());
    match after.chars().next() {
        Some(':') => {
            let (clock, after) = span(text, |c| c.is_ascii_digit() || c == ':' || c == '.');
            set_time(fields, parse_clock(clock)?)?;
            Ok(after)
        }
        Some(separator @ ('-' | '/')) if fields.reading.date.is_none() && fields.loose.is_empty() => {
            let (date, after) = span(text, |c| c.is_ascii_alphanumeric() || c == separator);
            // The letter T may join date and time.
            let (date, after) =
                match date.find('t').filter(|at| date[at + 1..].starts_with(|c: char| c.is_ascii_digit())) {
                    Some(at) => text.split_at(at),
                    None => (date, after),
                };
            fields.reading.date = Some(parse_date_parts(&date.split(separator).collect::<Vec<_>>())?);
            Ok(after)
        }
        Some('.') if after[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (dotted, after) = span(text, |c| c.is_ascii_digit() || c == '.');
            let parts: Vec<&str> = dotted.split('.').collect();
            if parts.len() == 3 {
                fields.reading.date = Some(parse_date_parts(&parts)?);
            } else if parts.len() == 2
                && matches!(parts[0].len(), 6)
                && (fields.reading.date.is_some() || fields.expects_time)
            {
                let time = compact_time(parts[0])? + fraction_micros(parts[1])?;
                set_time(fields, time)?;
            } else if parts.len() == 2 && parts[1].len() == 3 && parts[0].len() == 4 {
                let (year, day) = (digits(parts[0].as_bytes()), digits(parts[1].as_bytes()));
                let (Some(year), Some(day)) = (year, day) else { return Err(Fault::Syntax) };
                fields.reading.date = Some(calendar::civil_from_days(calendar::days_from_civil(year, 1, day)));
            } else {
                return Err(Fault::Syntax);
            }
            Ok(after)
        }
        _ => {
            let value = digits(number.as_bytes()).filter(|_| number.len() <= 18).ok_or(Fault::Syntax)?;
            let has_date = fields.reading.date.is_some();
            if (fields.expects_time || has_date) && fields.reading.time.is_none() && matches!(number.len(), 4 | 6) {
                let time = compact_time(number)?;
                set_time(fields, time)?;
            } else if !has_date && fields.month.is_none() && number.len() == 8 {
                let (year, month, day) = (value / 10_000, value / 100 % 100, value % 100);
                fields.reading.date = Some(valid_date(year, month, day)?);
            } else if !has_date && fields.month.is_none() && number.len() == 6 {
                let (year, month, day) = (value / 10_000, value / 100 % 100, value % 100);
                fields.reading.date = Some(valid_date(full_year(year, 2), month, day)?);
            } else if !has_date
                && (after.starts_with("am")
                    || after.starts_with("pm")
                    || after.trim_start().starts_with("am")
                    || after.trim_start().starts_with("pm"))
            {
                set_time(fields, value * HOUR)?;
            } else if has_date || fields.loose.len() >= 2 {
                return Err(Fault::Syntax);
            } else {
                fields.loose.push((value, number.len()));
            }
            Ok(after)
        }
    }
}

fn read_offset<'a>(text: &'a str, fields: &mut Fields) -> Result<&'a str, Fault> {
    if fields.reading.time.is_none() && fields.reading.date.is_none() {
        return Err(Fault::Syntax);
    }
    let end = text[1..].find(|c: char| !(c.is_ascii_digit() || c == ':')).map_or(text.len(), |at| at + 1);
    let (offset, after) = text.split_at(end);
    let seconds = calendar::parse_offset(offset).ok_or(Fault::Syntax)?;
    fields.reading.zone = Some(TimeZone::Fixed(seconds));
    Ok(after)
}

fn read_word<'a>(text: &'a str, fields: &mut Fields) -> Result<&'a str, Fault> {
    let (word, after) = span(text, |c| c.is_ascii_alphabetic());
    match word {
        "t" if after.starts_with(|c: char| c.is_ascii_digit()) => fields.expects_time = true,
        "bc" => fields.bc = true,
        "ad" => {}
        "am" => fields.pm = Some(false),
        "pm" => fields.pm = Some(true),
        "at" | "on" => {}
        "infinity" | "epoch" | "now" | "today" | "tomorrow" | "yesterday" => return Err(Fault::Syntax),
        word if month_by_name(word).is_some() && fields.month.is_none() => fields.month = month_by_name(word),
        word if is_day_name(word) => {}
        _ => {
            let (name, after) = span(text, |c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-'));
            fields.reading.zone = Some(TimeZone::find(name).ok_or(Fault::Syntax)?);
            return Ok(after);
        }
    }
    Ok(after.trim_start_matches('.'))
}

fn settle(mut fields: Fields) -> Result<Reading, Fault> {
    if let Some(month) = fields.month {
        let (day, year) = match fields.loose[..] {
            [(year, length), (day, _)] if length >= 3 => (day, full_year(year, length)),
            [(day, _), (year, length)] => (day, full_year(year, length)),
            _ => return Err(Fault::Syntax),
        };
        fields.reading.date = Some(valid_date(year, month, day)?);
    } else if !fields.loose.is_empty() {
        return Err(Fault::Syntax);
    }
    if fields.bc {
        let (year, month, day) = fields.reading.date.ok_or(Fault::Syntax)?;
        if year <= 0 {
            return Err(Fault::Range);
        }
        fields.reading.date = Some(valid_date(1 - year, month, day)?);
    } else if fields.reading.date.is_some_and(|(year, _, _)| year == 0) {
        return Err(Fault::Range);
    }
    if let Some(pm) = fields.pm {
        let time = fields.reading.time.ok_or(Fault::Syntax)?;
        let hour = time / HOUR;
        if !(1..=12).contains(&hour) && hour != 0 {
            return Err(Fault::Range);
        }
        fields.reading.time = Some(match (pm, hour) {
            (true, 12) | (false, 0..=11) => time,
            (true, _) => time + 12 * HOUR,
            (false, _) => time - 12 * HOUR,
        });
    }
    Ok(fields.reading)
}

fn set_time(fields: &mut Fields, time: i64) -> Result<(), Fault> {
    if fields.reading.time.replace(time).is_some() {
        return Err(Fault::Syntax);
    }
    Ok(())
}

fn full_year(year: i64, digit_count: usize) -> i64 {
    match digit_count {
        0..=2 if year < 70 => year + 2000,
        0..=2 => year + 1900,
        _ => year,
    }
}

fn valid_date(year: i64, month: i64, day: i64) -> Result<(i64, i64, i64), Fault> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(Fault::Month);
    }
    if day > calendar::days_in_month(year, month) {
        return Err(Fault::Range);
    }
    Ok((year, month, day))
}

fn parse_date_parts(parts: &[&str]) -> Result<(i64, i64, i64), Fault> {
    let number = |part: &str| {
        (!part.is_empty() && part.len() <= 9).then(|| digits(part.as_bytes())).flatten().ok_or(Fault::Syntax)
    };
    let [first, second, third] = parts else { return Err(Fault::Syntax) };
    if let Some(month) = month_by_name(second) {
        // 1999-Jan-08 or 08-Jan-1999.
        return if first.len() >= 3 {
            valid_date(number(first)?, month, number(third)?)
        } else {
            valid_date(full_year(number(third)?, third.len()), month, number(first)?)
        };
    }
    if let Some(month) = month_by_name(first) {
        return valid_date(full_year(number(third)?, third.len()), month, number(second)?);
    }
    if first.len() >= 3 {
        return valid_date(number(first)?, number(second)?, number(third)?);
    }
    valid_date(full_year(number(third)?, third.len()), number(first)?, number(second)?)
}

/// `HHMM` or `HHMMSS`.
fn compact_time(text: &str) -> Result<i64, Fault> {
    let value = digits(text.as_bytes()).ok_or(Fault::Syntax)?;
    let value = if text.len() == 4 { value * 100 } else { value };
    clock(value / 10_000, value / 100 % 100, value % 100, 0)
}

fn fraction_micros(fraction: &str) -> Result<i64, Fault> {
    if fraction.is_empty() {
        return Ok(0);
    }
    let seconds: f64 = format!("0.{fraction}").parse().map_err(|_| Fault::Syntax)?;
    Ok((seconds * 1e6).round_ties_even() as i64)
}

/// `HH:MM[:SS[.ffffff]]`.
fn parse_clock(text: &str) -> Result<i64, Fault> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<&str> = whole.split(':').collect();
    let number = |part: &str| {
        (!part.is_empty() && part.len() <= 7).then(|| digits(part.as_bytes())).flatten().ok_or(Fault::Syntax)
    };
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (number(hour)?, number(minute)?, 0),
        [hour, minute, second] => (number(hour)?, number(minute)?, number(second)?),
        _ => return Err(Fault::Syntax),
    };
    clock(hour, minute, second, fraction_micros(fraction)?)
}

fn clock(hour: i64, minute: i64, second: i64, micros: i64) -> Result<i64, Fault> {
    let time = hour * HOUR + minute * MINUTE + second * SECOND + micros;
    if minute > 59 || second > 60 || hour > 24 || time > DAY {
        return Err(Fault::Range);
    }
    Ok(time)
}

/// Appends a date as PostgreSQL prints it.
pub fn format_date(date: i32, out: &mut String) {
    match date {
        calendar::DATE_INFINITY => out.push_str("infinity"),
        calendar::DATE_NEGATIVE_INFINITY => out.push_str("-infinity"),
        date => {
            let era = push_date(date as i64, out);
            out.push_str(era);
        }
    }
}

/// Appends a time of day as PostgreSQL prints it.
pub fn format_time(time: i64, out: &mut String) {
    push_pair(time / HOUR, out);
    out.push(':');
    push_pair(time % HOUR / MINUTE, out);
    out.push(':');
    push_pair(time % MINUTE / SECOND, out);
    push_fraction(time % SECOND, out);
}

/// Appends a timestamp without time zone as PostgreSQL prints it.
pub fn format_timestamp(timestamp: i64, out: &mut String) {
    if let Some(word) = infinity_word(timestamp) {
        return out.push_str(word);
    }
    let (days, time) = calendar::split_timestamp(timestamp);
    let era = push_date(days, out);
    out.push(' ');
    format_time(time, out);
    out.push_str(era);
}

/// Appends a timestamp with time zone as PostgreSQL prints it in `zone`.
pub fn format_timestamptz(timestamp: i64, zone: &TimeZone, out: &mut String) {
    if let Some(word) = infinity_word(timestamp) {
        return out.push_str(word);
    }
    let offset = zone.offset_seconds(timestamp);
    let (days, time) = calendar::split_timestamp(timestamp.saturating_add(offset * SECOND));
    let era = push_date(days, out);
    out.push(' ');
    format_time(time, out);
    out.push(if offset < 0 { '-' } else { '+' });
    let offset = offset.abs();
    push_pair(offset / 3600, out);
    if offset % 3600 != 0 {
        out.push(':');
        push_pair(offset % 3600 / 60, out);
    }
    if offset % 60 != 0 {
        out.push(':');
        push_pair(offset % 60, out);
    }
    out.push_str(era);
}

fn infinity_word(timestamp: i64) -> Option<&'static str> {
    match timestamp {
        calendar::INFINITY => Some("infinity"),
        calendar::NEGATIVE_INFINITY => Some("-infinity"),
        _ => None,
    }
}

/// Two digits at least.
pub(crate) fn push_pair(value: i64, out: &mut String) {
    if (0..100).contains(&value) {
        out.push((b'0' + (value / 10) as u8) as char);
        out.push((b'0' + (value % 10) as u8) as char);
    } else {
        push_number(value, 2, out);
    }
}

fn push_number(value: i64, width: usize, out: &mut String) {
    // Writing into a String cannot fail.
    let _ = write!(out, "{value:0width$}");
}

/// `.ffffff` without trailing zeros, nothing for zero.
pub(crate) fn push_fraction(micros: i64, out: &mut String) {
    if micros != 0 {
        out.push('.');
        push_number(micros, 6, out);
        let trimmed = out.trim_end_matches('0').len();
        out.truncate(trimmed);
    }
}

/// Appends year, month and day; returns what has to follow at the very end.
fn push_date(days: i64, out: &mut String) -> &'static str {
    let (year, month, day) = calendar::civil_from_days(days);
    let (year, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    if year < 10_000 {
        push_pair(year / 100, out);
        push_pair(year % 100, out);
    } else {
        push_number(year, 4, out);
    }
    out.push('-');
    push_pair(month, out);
    out.push('-');
    push_pair(day, out);
    era
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(text: &str) -> String {
        let mut out = String::new();
        match parse_timestamp(text) {
            Ok(value) => format_timestamp(value, &mut out),
            Err(error) => return error.message,
        }
        out
    }

    fn instant(text: &str, zone: &str) -> String {
        let zone = TimeZone::parse(zone).unwrap();
        let mut out = String::new();
        format_timestamptz(parse_timestamptz(text, &zone).unwrap(), &zone, &mut out);
        out
    }

    #[test]
    fn reads_many_spellings() {
        // Every pair was checked against PostgreSQL 15.
        for (text, expected) in [
            ("2024-02-29", "2024-02-29 00:00:00"),
            ("2024-02-29 12:34:56.789", "2024-02-29 12:34:56.789"),
            ("2024-02-29T12:34:56Z", "2024-02-29 12:34:56"),
            ("2024-02-29 12:34", "2024-02-29 12:34:00"),
            ("2024-2-9 1:02:03", "2024-02-09 01:02:03"),
            ("Jan 8, 1999 3:04 PM", "1999-01-08 15:04:00"),
            ("January 8 1999", "1999-01-08 00:00:00"),
            ("8-Jan-1999", "1999-01-08 00:00:00"),
            ("1999-Jan-08", "1999-01-08 00:00:00"),
            ("1/8/1999", "1999-01-08 00:00:00"),
            ("01/02/03", "2003-01-02 00:00:00"),
            ("19990108", "1999-01-08 00:00:00"),
            ("19990108T040506", "1999-01-08 04:05:06"),
            ("990108", "1999-01-08 00:00:00"),
            ("2024-01-01 24:00:00", "2024-01-02 00:00:00"),
            ("2024-01-01 23:59:60", "2024-01-02 00:00:00"),
            ("0044-03-15 BC", "0044-03-15 00:00:00 BC"),
            ("Mon Jan 01 10:00:00 2024", "2024-01-01 10:00:00"),
            ("infinity", "infinity"),
            ("epoch", "1970-01-01 00:00:00"),
            ("2024-01-01 00:00:00.0000005", "2024-01-01 00:00:00"),
            ("2024-01-01 00:00:00.9999999", "2024-01-01 00:00:01"),
            ("2024-02-30", "date/time field value out of range: \"2024-02-30\""),
            ("2024-13-01", "date/time field value out of range: \"2024-13-01\""),
            ("2024-01-01 25:00", "date/time field value out of range: \"2024-01-01 25:00\""),
            ("rubbish", "invalid input syntax for type timestamp: \"rubbish\""),
            ("", "invalid input syntax for type timestamp: \"\""),
        ] {
            assert_eq!(timestamp(text), expected, "{text:?}");
        }
    }

    #[test]
    fn instants_follow_their_zone() {
        assert_eq!(instant("2024-07-01 12:00:00", "UTC"), "2024-07-01 12:00:00+00");
        assert_eq!(instant("2024-07-01 12:00:00+05:30", "UTC"), "2024-07-01 06:30:00+00");
        assert_eq!(instant("2024-07-01 12:00:00-0330", "UTC"), "2024-07-01 15:30:00+00");
        assert_eq!(instant("2024-07-01 12:00:00 America/New_York", "UTC"), "2024-07-01 16:00:00+00");
        assert_eq!(instant("2024-07-01 12:00:00", "Asia/Kolkata"), "2024-07-01 12:00:00+05:30");
        assert_eq!(instant("2024-01-01 12:00 PST", "UTC"), "2024-01-01 20:00:00+00");
    }

    #[test]
    fn times_of_day() {
        let time = |text: &str| {
            let mut out = String::new();
            format_time(parse_time(text).unwrap(), &mut out);
            out
        };
        assert_eq!(time("04:05:06.789"), "04:05:06.789");
        assert_eq!(time("04:05 PM"), "16:05:00");
        assert_eq!(time("12:00 AM"), "00:00:00");
        assert_eq!(time("24:00:00"), "24:00:00");
    }
}
