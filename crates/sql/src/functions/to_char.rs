//! to_char over timestamps and intervals: PostgreSQL's template patterns.

use std::fmt::Write;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use repr::text::calendar::{self, HOUR, MINUTE, SECOND};
use repr::{PgError, SqlState};

use super::kernel::Call;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// The patterns, longest first where one is the start of another; spelled as they are compared, some in any case.
const PATTERNS: &[&str] = &[
    "SSSSS", "SSSS", "HH24", "HH12", "HH", "MI", "SS", "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "A.M.",
    "P.M.", "a.m.", "p.m.", "AM", "PM", "am", "pm", "Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IYY", "IY", "IDDD",
    "ID", "IW", "I", "B.C.", "A.D.", "b.c.", "a.d.", "BC", "AD", "bc", "ad", "MONTH", "Month", "month", "MON", "Mon",
    "mon", "MM", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "DD", "D", "WW", "W", "CC", "J", "Q", "RM", "rm", "TZH",
    "TZM", "TZ", "tz", "OF",
];

/// Patterns that mean the same in any case.
fn any_case(pattern: &str) -> bool {
    !matches!(
        pattern.to_ascii_uppercase().as_str(),
        "A.M." | "P.M." | "AM" | "PM" | "B.C." | "A.D." | "BC" | "AD" | "MONTH" | "MON" | "DAY" | "DY" | "RM" | "TZ"
    )
}

/// What a moment or an interval shows.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    /// Days since the epoch; None for an interval.
    date: Option<i64>,
    /// Microseconds; an interval's may be any.
    time: i64,
    zoned: bool,
}

pub(crate) fn timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, formats) = (call.timestamp(0), call.text(1));
    let zoned = matches!(call.argument(0).0.data_type(), DataType::Timestamp(_, Some(_)));
    let mut template = Template::default();
    call.map_text_nullable(|row, out| {
        let timestamp = values.get(row);
        if calendar::is_infinite(timestamp) {
            return Ok(false);
        }
        let (days, time) = calendar::split_timestamp(timestamp);
        let (year, month, day) = calendar::civil_from_days(days);
        template.read(formats.get(row));
        template.write(&Parts { year, month, day, date: Some(days), time, zoned }, out)?;
        Ok(true)
    })
}

pub(crate) fn interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, formats) = (call.interval(0), call.text(1));
    let mut template = Template::default();
    call.map_text(|row, out| {
        let value = values.get(row);
        let parts = Parts {
            year: (value.months / 12) as i64,
            month: (value.months % 12) as i64,
            day: value.days as i64,
            date: None,
            time: value.micros,
            zoned: false,
        };
        template.read(formats.get(row));
        template.write(&parts, out)
    })
}

/// A template in pieces: mostly all rows have the same one, and finding its patterns is dearer than filling them in.
#[derive(Default)]
struct Template {
    text: String,
    pieces: Vec<Piece>,
}

enum Piece {
    Text(String),
    Pattern {
        pattern: &'static str,
        /// The pattern in the case that it has in the template.
        written: String,
        fill: bool,
        /// Whether an ordinal's ending follows, and if it is in upper case.
        ordinal: Option<bool>,
    },
}

impl Template {
    /// Takes in a template, unless it is the one that is there.
    fn read(&mut self, text: &str) {
        if self.text != text {
            self.text = text.to_string();
            self.pieces = pieces(text);
        }
    }

    fn write(&self, parts: &Parts, out: &mut String) -> Result<(), PgError> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Pattern { pattern, written, fill, ordinal: ending } => {
                    let start = out.len();
                    write_pattern(parts, pattern, written, *fill, out)?;
                    if let Some(upper) = ending {
                        let suffix = ordinal(&out[start..]);
                        out.push_str(&if *upper { suffix.to_uppercase() } else { suffix.to_string() });
                    }
                }
            }
        }
        Ok(())
    }
}

fn pieces(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            rest = quoted(&rest[1..], &mut text);
            continue;
        }
        if c == '\\' && rest[1..].starts_with('"') {
            text.push('"');
            rest = &rest[2..];
            continue;
        }
        let mut fill = true;
        let mut body = rest;
        if body.len() >= 2 && body.is_char_boundary(2) && body[..2].eq_ignore_ascii_case("FM") {
            fill = false;
            body = &body[2..];
        } else if body.len() >= 2 && body.is_char_boundary(2) && body[..2].eq_ignore_ascii_case("TM") {
            body = &body[2..];
        }
        let Some(pattern) = find_pattern(body) else {
            text.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let written = body[..pattern.len()].to_string();
        rest = &body[pattern.len()..];
        let mut ordinal = None;
        if rest.len() >= 2 && rest.is_char_boundary(2) && rest[..2].eq_ignore_ascii_case("TH") {
            ordinal = Some(rest.starts_with('T'));
            rest = &rest[2..];
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Pattern { pattern, written, fill, ordinal });
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

fn quoted<'a>(text: &'a str, out: &mut String) -> &'a str {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return &text[at + 1..],
            '\\' => out.extend(chars.next().map(|(_, next)| next)),
            c => out.push(c),
        }
    }
    ""
}

fn find_pattern(text: &str) -> Option<&'static str> {
    PATTERNS.iter().copied().find(|pattern| {
        text.is_char_boundary(pattern.len().min(text.len()))
            && text.len() >= pattern.len()
            && match any_case(pattern) {
                true => text[..pattern.len()].eq_ignore_ascii_case(pattern),
                false => text.starts_with(pattern),
            }
    })
}

fn ordinal(number: &str) -> &'static str {
    let digits = number.trim().trim_start_matches('-');
    let tens = digits.len() >= 2 && digits.as_bytes()[digits.len() - 2] == b'1';
    match digits.as_bytes().last() {
        Some(b'1') if !tens => "st",
        Some(b'2') if !tens => "nd",
        Some(b'3') if !tens => "rd",
        _ => "th",
    }
}

fn number(value: i64, width: usize, fill: bool, out: &mut String) {
    // The sign stands beside the digits it is filled to.
    let width = if fill { width + (value < 0) as usize } else { 0 };
    write!(out, "{value:0width$}").expect("a string takes all that is written");
}

/// A name in the case of its pattern, padded to nine characters where filled.
fn name(full: &str, pattern: &str, length: Option<usize>, fill: bool, out: &mut String) {
    let short = length.map_or(full, |length| &full[..length]);
    let cased = match pattern.chars().nth(1).is_some_and(|c| c.is_lowercase()) {
        true if pattern.starts_with(|c: char| c.is_lowercase()) => short.to_lowercase(),
        true => short.to_string(),
        false => short.to_uppercase(),
    };
    let width = if fill && length.is_none() { 9 } else { 0 };
    out.push_str(&format!("{cased:<width$}"));
}

fn needs_date(parts: &Parts) -> Result<i64, PgError> {
    parts.date.ok_or_else(|| {
        PgError::new(SqlState::INVALID_DATETIME_FORMAT, "invalid format specification for an interval value")
            .with_hint("Intervals are not tied to specific calendar dates.")
    })
}

fn write_pattern(parts: &Parts, pattern: &str, written: &str, fill: bool, out: &mut String) -> Result<(), PgError> {
    let hour = parts.time / HOUR;
    let shown_year = if parts.date.is_some() && parts.year <= 0 { 1 - parts.year } else { parts.year };
    let half_day = if hour % 12 == 0 { 12 } else { hour % 12 };
    let fraction = (parts.time % SECOND).abs();
    let morning = hour.rem_euclid(24) < 12;
    match pattern {
        "HH24" => number(hour, 2, fill, out),
        "HH12" | "HH" => number(half_day, 2, fill, out),
        "MI" => number((parts.time % HOUR / MINUTE).abs(), 2, fill, out),
        "SS" => number((parts.time % MINUTE / SECOND).abs(), 2, fill, out),
        "SSSSS" | "SSSS" => number(parts.time / SECOND, 1, false, out),
        "MS" => number(fraction / 1000, 3, fill, out),
        "US" => number(fraction, 6, fill, out),
        "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
            let digits = (pattern.as_bytes()[2] - b'0') as u32;
            number(fraction / 10i64.pow(6 - digits), digits as usize, true, out);
        }
        "AM" | "PM" => out.push_str(if morning { "AM" } else { "PM" }),
        "am" | "pm" => out.push_str(if morning { "am" } else { "pm" }),
        "A.M." | "P.M." => out.push_str(if morning { "A.M." } else { "P.M." }),
        "a.m." | "p.m." => out.push_str(if morning { "a.m." } else { "p.m." }),
        "Y,YYY" => out.push_str(&format!("{},{:03}", shown_year / 1000, shown_year % 1000)),
        "YYYY" => number(shown_year, 4, fill, out),
        "YYY" => number(shown_year % 1000, 3, fill, out),
        "YY" => number(shown_year % 100, 2, fill, out),
        "Y" => number(shown_year % 10, 1, fill, out),
        "IYYY" | "IYY" | "IY" | "I" => {
            let year = calendar::iso_week(needs_date(parts)?).0;
            let width = pattern.len();
            number(if width == 4 { year } else { year % 10i64.pow(width as u32) }, width, fill, out);
        }
        "BC" | "AD" => out.push_str(if parts.year <= 0 { "BC" } else { "AD" }),
        "bc" | "ad" => out.push_str(if parts.year <= 0 { "bc" } else { "ad" }),
        "B.C." | "A.D." => out.push_str(if parts.year <= 0 { "B.C." } else { "A.D." }),
        "b.c." | "a.d." => out.push_str(if parts.year <= 0 { "b.c." } else { "a.d." }),
        "MONTH" | "Month" | "month" | "MON" | "Mon" | "mon" | "RM" | "rm" => {
            needs_date(parts)?;
            let index = (parts.month - 1).clamp(0, 11) as usize;
            match pattern {
                "RM" | "rm" => {
                    let text = if pattern == "rm" { ROMAN[index].to_lowercase() } else { ROMAN[index].to_string() };
                    let width = if fill { 4 } else { 0 };
                    out.push_str(&format!("{text:<width$}"));
                }
                pattern => name(MONTHS[index], written, (pattern.len() == 3).then_some(3), fill, out),
            }
        }
        "MM" => number(parts.month, 2, fill, out),
        "DAY" | "Day" | "day" => {
            name(DAYS[calendar::day_of_week(needs_date(parts)?) as usize], written, None, fill, out);
        }
        "DY" | "Dy" | "dy" => {
            name(DAYS[calendar::day_of_week(needs_date(parts)?) as usize], written, Some(3), fill, out);
        }
        "DDD" => {
            let value = match parts.date {
                Some(days) => days - calendar::days_from_civil(parts.year, 1, 1) + 1,
                None => (parts.year * 12 + parts.month) * 30 + parts.day,
            };
            number(value, 3, fill, out);
        }
        "IDDD" => {
            let days = needs_date(parts)?;
            let (_, week) = calendar::iso_week(days);
            number((week - 1) * 7 + (calendar::day_of_week(days) + 6) % 7 + 1, 3, fill, out);
        }
        "DD" => number(parts.day, 2, fill, out),
        "D" => number(calendar::day_of_week(needs_date(parts)?) + 1, 1, fill, out),
        "ID" => number((calendar::day_of_week(needs_date(parts)?) + 6) % 7 + 1, 1, fill, out),
        "WW" => {
            let day_of_year = needs_date(parts)? - calendar::days_from_civil(parts.year, 1, 1);
            number(day_of_year / 7 + 1, 2, fill, out);
        }
        "W" => number((parts.day - 1) / 7 + 1, 1, fill, out),
        "IW" => number(calendar::iso_week(needs_date(parts)?).1, 2, fill, out),
        "CC" => {
            let year = parts.year;
            let century = if parts.date.is_none() {
                year / 100
            } else if year > 0 {
                (year + 99) / 100
            } else {
                year / 100 - 1
            };
            number(century, 2, fill, out);
        }
        "J" => number(needs_date(parts)? + 2_440_588, 1, fill, out),
        "Q" if parts.month > 0 => number((parts.month - 1) / 3 + 1, 1, fill, out),
        "Q" => {}
        "TZ" => out.push_str(if parts.zoned { "UTC" } else { "" }),
        "tz" => out.push_str(if parts.zoned { "utc" } else { "" }),
        "TZH" | "OF" => out.push_str("+00"),
        "TZM" => out.push_str("00"),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, template: &str) -> String {
        let timestamp = repr::text::datetime::parse_timestamp(text).unwrap();
        let (days, time) = calendar::split_timestamp(timestamp);
        let (year, month, day) = calendar::civil_from_days(days);
        let mut out = String::new();
        let mut read = Template::default();
        read.read(template);
        read.write(&Parts { year, month, day, date: Some(days), time, zoned: false }, &mut out).unwrap();
        out
    }

    #[test]
    fn templates() {
        // Every pair was checked against PostgreSQL 15.
        for (template, expected) in [
            ("YYYY-MM-DD HH24:MI:SS.US", "2024-03-05 14:07:09.012345"),
            ("Day, DD Month YYYY", "Tuesday  , 05 March     2024"),
            ("FMDay, FMDD FMMonth YYYY", "Tuesday, 5 March 2024"),
            ("Dy Mon DDth", "Tue Mar 05th"),
            ("HH12:MI AM", "02:07 PM"),
            ("IYYY-IW-ID", "2024-10-2"),
            ("DDD Q CC WW W J", "065 1 21 10 1 2460375"),
            ("\"Year\" YYYY", "Year 2024"),
            ("MS FF3 SSSS", "012 012 50829"),
            ("MONTH|month|RM", "MARCH    |march    |III "),
        ] {
            assert_eq!(shown("2024-03-05 14:07:09.012345", template), expected, "{template}");
        }
    }
}
