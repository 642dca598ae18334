//! Days, clocks and time zones as integers: PostgreSQL's calendar arithmetic without its syntax.
//!
//! A date is days since 1970-01-01 (proleptic Gregorian), a time microseconds since midnight, a timestamp microseconds since
//! the epoch. The extreme values of each stand for `-infinity` and `infinity`, as in PostgreSQL. Year 0 is 1 BC.

use chrono::{NaiveDate, NaiveDateTime, Offset, TimeZone as _};

use crate::{PgError, SqlState};

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds of an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds of a day.
pub const DAY: i64 = 24 * HOUR;

/// `infinity` as a date.
pub const DATE_INFINITY: i32 = i32::MAX;
/// `-infinity` as a date.
pub const DATE_NEGATIVE_INFINITY: i32 = i32::MIN;
/// `infinity` as a timestamp.
pub const INFINITY: i64 = i64::MAX;
/// `-infinity` as a timestamp.
pub const NEGATIVE_INFINITY: i64 = i64::MIN;

/// 4714-11-24 BC, the first day PostgreSQL knows.
pub const DATE_MIN: i64 = -2_440_588;
/// The last day PostgreSQL knows, 5874897-12-31.
pub const DATE_MAX: i64 = 2_145_042_905;

/// Whether a date stands for an infinity.
pub fn is_infinite_date(date: i32) -> bool {
    date == DATE_INFINITY || date == DATE_NEGATIVE_INFINITY
}

/// Whether a timestamp stands for an infinity.
pub fn is_infinite(timestamp: i64) -> bool {
    timestamp == INFINITY || timestamp == NEGATIVE_INFINITY
}

/// Days since the epoch of a proleptic Gregorian date; month and day may lie outside their ranges and carry over.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    // Years counted from March put the leap day at the year's end.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year + day - 1 - 719_468
}

/// Year, month and day of days since the epoch.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + (month <= 2) as i64, month, day)
}

/// Days of a month.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        _ => 31,
    }
}

/// 0 is Sunday.
pub fn day_of_week(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

/// ISO 8601 year and week.
pub fn iso_week(days: i64) -> (i64, i64) {
    // A week belongs to the year of its Thursday.
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// A timestamp's day and the microseconds into it.
pub fn split_timestamp(timestamp: i64) -> (i64, i64) {
    (timestamp.div_euclid(DAY), timestamp.rem_euclid(DAY))
}

/// The timestamp of a day and microseconds into it; None where it leaves the range.
pub fn join_timestamp(days: i64, time: i64) -> Option<i64> {
    if days < DATE_MIN {
        return None;
    }
    let timestamp = days.checked_mul(DAY)?.checked_add(time)?;
    (!is_infinite(timestamp)).then_some(timestamp)
}

/// `timestamp` plus months (clamped to the month's last day), then days; None where it leaves the range.
pub fn add_months_days(timestamp: i64, months: i64, days: i64) -> Option<i64> {
    if is_infinite(timestamp) {
        return Some(timestamp);
    }
    let (mut day, time) = split_timestamp(timestamp);
    if months != 0 {
        let (year, month, day_of_month) = civil_from_days(day);
        let total = year * 12 + month - 1 + months;
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        day = days_from_civil(year, month, day_of_month.min(days_in_month(year, month)));
    }
    join_timestamp(day + days, time)
}

/// The zone in which timestamptz is read and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeZone {
    /// Seconds east of Greenwich.
    Fixed(i32),
    /// A zone of the IANA database.
    Named(chrono_tz::Tz),
}

impl TimeZone {
    /// UTC.
    pub const UTC: TimeZone = TimeZone::Fixed(0);

    /// Reads a zone's name (`UTC`, `Europe/Rome`, case-insensitive), abbreviation, or offset (`+05:30`: east, as in a
    /// timestamp's text). Error `22023`.
    pub fn parse(name: &str) -> Result<TimeZone, PgError> {
        TimeZone::find(name.trim()).ok_or_else(|| {
            PgError::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"))
        })
    }

    pub(crate) fn find(name: &str) -> Option<TimeZone> {
        if name.starts_with(['+', '-']) {
            return parse_offset(name).map(TimeZone::Fixed);
        }
        if let Some((_, seconds)) = ABBREVIATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Some(TimeZone::Fixed(*seconds));
        }
        chrono_tz::TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(name)).map(
            |zone| match zone {
                chrono_tz::UTC | chrono_tz::Etc::UTC | chrono_tz::GMT => TimeZone::UTC,
                zone => TimeZone::Named(zone),
            },
        )
    }

    /// Seconds east of Greenwich at an instant (microseconds since the epoch).
    pub fn offset_seconds(&self, instant: i64) -> i64 {
        match self {
            TimeZone::Fixed(seconds) => *seconds as i64,
            TimeZone::Named(zone) => match chrono::DateTime::from_timestamp_micros(instant) {
                Some(instant) => zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc() as i64,
                None => 0,
            },
        }
    }

    /// The local clock's timestamp at an instant.
    pub fn to_local(&self, instant: i64) -> i64 {
        if is_infinite(instant) { instant } else { instant.saturating_add(self.offset_seconds(instant) * SECOND) }
    }

    /// The instant at which the local clock shows `local`. A clock time that does not exist is taken before the change, one
    /// that exists twice is taken as standard time: PostgreSQL's choice both times.
    pub fn from_local(&self, local: i64) -> i64 {
        if is_infinite(local) {
            return local;
        }
        let zone = match self {
            TimeZone::Fixed(seconds) => return local.saturating_sub(*seconds as i64 * SECOND),
            TimeZone::Named(zone) => zone,
        };
        let Some(naive) = naive_local(local) else { return local };
        let offset = match zone.offset_from_local_datetime(&naive) {
            chrono::LocalResult::Single(offset) => offset.fix().local_minus_utc() as i64,
            chrono::LocalResult::Ambiguous(_, later) => later.fix().local_minus_utc() as i64,
            chrono::LocalResult::None => self.offset_seconds(local.saturating_sub(DAY)),
        };
        local.saturating_sub(offset * SECOND)
    }
}

fn naive_local(local: i64) -> Option<NaiveDateTime> {
    let (days, time) = split_timestamp(local);
    let (year, month, day) = civil_from_days(days);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month as u32, day as u32)?;
    Some(date.and_time(chrono::NaiveTime::from_num_seconds_from_midnight_opt((time / SECOND) as u32, 0)?))
}

/// `+hh`, `-hhmm`, `+hh:mm`, `+hh:mm:ss` as seconds east.
pub(crate) fn parse_offset(text: &str) -> Option<i32> {
    let negative = text.starts_with('-');
    let body = text.strip_prefix(['+', '-'])?;
    let number = |part: &str| (part.len() <= 2 && !part.is_empty()).then(|| part.parse::<i32>().ok()).flatten();
    let (hours, minutes, seconds) = if body.contains(':') {
        let mut parts = body.split(':');
        let hours = number(parts.next()?)?;
        let minutes = number(parts.next()?)?;
        let seconds = parts.next().map_or(Some(0), number)?;
        (hours, minutes, seconds)
    } else if body.bytes().all(|byte| byte.is_ascii_digit()) && !body.is_empty() && body.len() <= 6 {
        match body.len() {
            1 | 2 => (number(body)?, 0, 0),
            3 | 4 => (number(&body[..body.len() - 2])?, number(&body[body.len() - 2..])?, 0),
            _ => (
                number(&body[..body.len() - 4])?,
                number(&body[body.len() - 4..body.len() - 2])?,
                number(&body[body.len() - 2..])?,
            ),
        }
    } else {
        return None;
    };
    if hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    let total = hours * 3600 + minutes * 60 + seconds;
    Some(if negative { -total } else { total })
}

/// The abbreviations people write; PostgreSQL's default set has more of the same kind.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("akdt", -8 * 3600),
    ("akst", -9 * 3600),
    ("bst", 3600),
    ("cdt", -5 * 3600),
    ("cest", 2 * 3600),
    ("cet", 3600),
    ("cst", -6 * 3600),
    ("edt", -4 * 3600),
    ("eest", 3 * 3600),
    ("eet", 2 * 3600),
    ("est", -5 * 3600),
    ("gmt", 0),
    ("jst", 9 * 3600),
    ("mdt", -6 * 3600),
    ("msk", 3 * 3600),
    ("mst", -7 * 3600),
    ("pdt", -7 * 3600),
    ("pst", -8 * 3600),
    ("ut", 0),
    ("utc", 0),
    ("wet", 0),
    ("z", 0),
    ("zulu", 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for (days, date) in
            [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (11_016, (2000, 2, 29)), (DATE_MIN, (-4713, 11, 24))]
        {
            assert_eq!(civil_from_days(days), date);
            assert_eq!(days_from_civil(date.0, date.1, date.2), days);
        }
        assert_eq!(civil_from_days(DATE_MAX), (5_874_897, 12, 31));
        assert_eq!(iso_week(days_from_civil(2021, 1, 3)), (2020, 53));
        assert_eq!(day_of_week(days_from_civil(2024, 2, 29)), 4);
    }

    #[test]
    fn months_clamp_to_the_last_day() {
        let start = days_from_civil(2024, 1, 31) * DAY;
        assert_eq!(add_months_days(start, 1, 0), Some(days_from_civil(2024, 2, 29) * DAY));
        assert_eq!(add_months_days(start, -11, 1), Some(days_from_civil(2023, 3, 1) * DAY));
    }

    #[test]
    fn zones_shift_clocks() {
        let rome = TimeZone::parse("europe/rome").unwrap();
        let summer = days_from_civil(2024, 7, 1) * DAY;
        assert_eq!(rome.to_local(summer), summer + 2 * HOUR);
        assert_eq!(rome.from_local(summer + 2 * HOUR), summer);
        assert_eq!(TimeZone::parse("+05:30").unwrap(), TimeZone::Fixed(19_800));
        assert!(TimeZone::parse("Middle/Earth").is_err());
    }
}
