//! Arithmetic over dates, times, timestamps and intervals, and the functions that cut, count and make them.

use arrow::array::ArrayRef;
use arrow::datatypes::*;
use repr::numeric::Numeric;
use repr::text::calendar::{self, DAY, HOUR, MINUTE, SECOND, TimeZone};
use repr::text::interval::Interval;
use repr::{PgError, SqlState};

use super::arithmetic::division_by_zero;
use super::conversion::{Cache, date_as_timestamp};
use super::kernel::Call;

fn field_overflow(message: &str) -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
}

fn timestamp_out_of_range() -> PgError {
    field_overflow("timestamp out of range")
}

fn date_out_of_range() -> PgError {
    field_overflow("date out of range")
}

fn add_days(date: i32, days: i64) -> Result<i32, PgError> {
    if calendar::is_infinite_date(date) {
        return Ok(date);
    }
    let result = date as i64 + days;
    match (calendar::DATE_MIN..=calendar::DATE_MAX).contains(&result) {
        true => Ok(result as i32),
        false => Err(date_out_of_range()),
    }
}

pub(crate) fn date_add_int(call: &Call) -> Result<ArrayRef, PgError> {
    let (dates, days) = (call.date(0), call.int4(1));
    call.map::<Date32Type>(|row| add_days(dates.get(row), days.get(row) as i64))
}

pub(crate) fn int_add_date(call: &Call) -> Result<ArrayRef, PgError> {
    let (days, dates) = (call.int4(0), call.date(1));
    call.map::<Date32Type>(|row| add_days(dates.get(row), days.get(row) as i64))
}

pub(crate) fn date_sub_int(call: &Call) -> Result<ArrayRef, PgError> {
    let (dates, days) = (call.date(0), call.int4(1));
    call.map::<Date32Type>(|row| add_days(dates.get(row), -(days.get(row) as i64)))
}

pub(crate) fn date_sub_date(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.date(0), call.date(1));
    call.map::<Int32Type>(|row| {
        let (left, right) = (left.get(row), right.get(row));
        if calendar::is_infinite_date(left) || calendar::is_infinite_date(right) {
            return Err(field_overflow("cannot subtract infinite dates"));
        }
        left.checked_sub(right).ok_or_else(date_out_of_range)
    })
}

/// A timestamp moved by an interval: months first, then days, then time.
pub(crate) fn add_interval(timestamp: i64, interval: &Interval) -> Result<i64, PgError> {
    if calendar::is_infinite(timestamp) {
        return Ok(timestamp);
    }
    let moved = match (interval.months, interval.days) {
        (0, 0) => Some(timestamp),
        (months, days) => calendar::add_months_days(timestamp, months as i64, days as i64),
    };
    moved
        .and_then(|moved| moved.checked_add(interval.micros))
        .filter(|moved| *moved >= calendar::DATE_MIN * DAY && !calendar::is_infinite(*moved))
        .ok_or_else(timestamp_out_of_range)
}

pub(crate) fn timestamp_add_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (timestamps, intervals) = (call.timestamp(0), call.interval(1));
    call.map::<TimestampMicrosecondType>(|row| add_interval(timestamps.get(row), &intervals.get(row)))
}

pub(crate) fn interval_add_timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let (intervals, timestamps) = (call.interval(0), call.timestamp(1));
    call.map::<TimestampMicrosecondType>(|row| add_interval(timestamps.get(row), &intervals.get(row)))
}

pub(crate) fn timestamp_sub_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (timestamps, intervals) = (call.timestamp(0), call.interval(1));
    call.map::<TimestampMicrosecondType>(|row| add_interval(timestamps.get(row), &intervals.get(row).neg()?))
}

pub(crate) fn date_add_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (dates, intervals) = (call.date(0), call.interval(1));
    call.map::<TimestampMicrosecondType>(|row| add_interval(date_as_timestamp(dates.get(row))?, &intervals.get(row)))
}

pub(crate) fn interval_add_date(call: &Call) -> Result<ArrayRef, PgError> {
    let (intervals, dates) = (call.interval(0), call.date(1));
    call.map::<TimestampMicrosecondType>(|row| add_interval(date_as_timestamp(dates.get(row))?, &intervals.get(row)))
}

pub(crate) fn date_sub_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (dates, intervals) = (call.date(0), call.interval(1));
    call.map::<TimestampMicrosecondType>(|row| {
        add_interval(date_as_timestamp(dates.get(row))?, &intervals.get(row).neg()?)
    })
}

fn date_and_time(date: i32, time: i64) -> Result<i64, PgError> {
    let midnight = date_as_timestamp(date)?;
    if calendar::is_infinite(midnight) {
        return Ok(midnight);
    }
    midnight.checked_add(time).ok_or_else(timestamp_out_of_range)
}

pub(crate) fn date_add_time(call: &Call) -> Result<ArrayRef, PgError> {
    let (dates, times) = (call.date(0), call.time(1));
    call.map::<TimestampMicrosecondType>(|row| date_and_time(dates.get(row), times.get(row)))
}

pub(crate) fn time_add_date(call: &Call) -> Result<ArrayRef, PgError> {
    let (times, dates) = (call.time(0), call.date(1));
    call.map::<TimestampMicrosecondType>(|row| date_and_time(dates.get(row), times.get(row)))
}

/// The difference in days and time: no months, whatever the distance.
fn timestamp_difference(left: i64, right: i64) -> Result<Interval, PgError> {
    if calendar::is_infinite(left) || calendar::is_infinite(right) {
        return Err(field_overflow("cannot subtract infinite timestamps"));
    }
    let micros = left.checked_sub(right).ok_or_else(|| field_overflow("interval out of range"))?;
    Ok(Interval { months: 0, days: 0, micros }.justify_hours())
}

pub(crate) fn timestamp_sub_timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.timestamp(0), call.timestamp(1));
    call.map_interval(|row| timestamp_difference(left.get(row), right.get(row)))
}

pub(crate) fn time_sub_time(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.time(0), call.time(1));
    call.map_interval(|row| Ok(Interval { months: 0, days: 0, micros: left.get(row) - right.get(row) }))
}

pub(crate) fn time_add_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (times, intervals) = (call.time(0), call.interval(1));
    call.map::<Time64MicrosecondType>(|row| Ok((times.get(row) + intervals.get(row).micros % DAY).rem_euclid(DAY)))
}

pub(crate) fn interval_add_time(call: &Call) -> Result<ArrayRef, PgError> {
    let (intervals, times) = (call.interval(0), call.time(1));
    call.map::<Time64MicrosecondType>(|row| Ok((times.get(row) + intervals.get(row).micros % DAY).rem_euclid(DAY)))
}

pub(crate) fn time_sub_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (times, intervals) = (call.time(0), call.interval(1));
    call.map::<Time64MicrosecondType>(|row| Ok((times.get(row) - intervals.get(row).micros % DAY).rem_euclid(DAY)))
}

pub(crate) fn interval_add(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.interval(0), call.interval(1));
    call.map_interval(|row| left.get(row).add(&right.get(row)))
}

pub(crate) fn interval_sub(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.interval(0), call.interval(1));
    call.map_interval(|row| left.get(row).add(&right.get(row).neg()?))
}

pub(crate) fn interval_neg(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.interval(0);
    call.map_interval(|row| values.get(row).neg())
}

pub(crate) fn interval_mul(call: &Call) -> Result<ArrayRef, PgError> {
    let (intervals, factors) = (call.interval(0), call.float8(1));
    call.map_interval(|row| intervals.get(row).multiply(factors.get(row)))
}

pub(crate) fn mul_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let (factors, intervals) = (call.float8(0), call.interval(1));
    call.map_interval(|row| intervals.get(row).multiply(factors.get(row)))
}

pub(crate) fn interval_div(call: &Call) -> Result<ArrayRef, PgError> {
    let (intervals, divisors) = (call.interval(0), call.float8(1));
    call.map_interval(|row| match divisors.get(row) {
        0.0 => Err(division_by_zero()),
        divisor => intervals.get(row).divide(divisor),
    })
}

pub(crate) fn justify_hours(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.interval(0);
    call.map_interval(|row| Ok(values.get(row).justify_hours()))
}

pub(crate) fn justify_days(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.interval(0);
    call.map_interval(|row| Ok(values.get(row).justify_days()))
}

pub(crate) fn justify_interval(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.interval(0);
    call.map_interval(|row| {
        let mut result = values.get(row).justify_hours().justify_days();
        // All parts take the sign of the largest.
        if result.months > 0 && (result.days < 0 || (result.days == 0 && result.micros < 0)) {
            result.days += 30;
            result.months -= 1;
        } else if result.months < 0 && (result.days > 0 || (result.days == 0 && result.micros > 0)) {
            result.days -= 30;
            result.months += 1;
        }
        if result.days > 0 && result.micros < 0 {
            result.micros += DAY;
            result.days -= 1;
        } else if result.days < 0 && result.micros > 0 {
            result.micros -= DAY;
            result.days += 1;
        }
        Ok(result)
    })
}

/// The symbolic difference in years, months and days.
fn age_between(left: i64, right: i64) -> Result<Interval, PgError> {
    if calendar::is_infinite(left) || calendar::is_infinite(right) {
        return Err(timestamp_out_of_range());
    }
    if left < right {
        return age_between(right, left)?.neg();
    }
    let ((left_days, left_time), (right_days, right_time)) =
        (calendar::split_timestamp(left), calendar::split_timestamp(right));
    let (left_year, left_month, left_day) = calendar::civil_from_days(left_days);
    let (right_year, right_month, right_day) = calendar::civil_from_days(right_days);
    let mut time = left_time - right_time;
    let mut days = left_day - right_day;
    let mut months = (left_year * 12 + left_month) - (right_year * 12 + right_month);
    if time < 0 {
        time += DAY;
        days -= 1;
    }
    if days < 0 {
        // Borrow the month of the earlier moment, as PostgreSQL does.
        days += calendar::days_in_month(right_year, right_month);
        months -= 1;
    }
    Interval::from_wide(months as i128, days as i128, time as i128)
}

pub(crate) fn age(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.timestamp(0), call.timestamp(1));
    call.map_interval(|row| age_between(left.get(row), right.get(row)))
}

/// A field that extract() and date_trunc() know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    IsoYear,
    Julian,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

fn unit(name: &str, type_name: &str) -> Result<Unit, PgError> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "microseconds" | "microsecond" | "us" | "usec" | "usecs" | "useconds" => Unit::Microseconds,
        "milliseconds" | "millisecond" | "ms" | "msec" | "msecs" | "mseconds" => Unit::Milliseconds,
        "second" | "seconds" | "s" | "sec" | "secs" => Unit::Second,
        "minute" | "minutes" | "m" | "min" | "mins" => Unit::Minute,
        "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Hour,
        "day" | "days" | "d" => Unit::Day,
        "week" | "weeks" | "w" => Unit::Week,
        "month" | "months" | "mon" | "mons" => Unit::Month,
        "quarter" | "qtr" => Unit::Quarter,
        "year" | "years" | "y" | "yr" | "yrs" => Unit::Year,
        "decade" | "decades" | "dec" | "decs" => Unit::Decade,
        "century" | "centuries" | "c" | "cent" => Unit::Century,
        "millennium" | "millennia" | "mil" | "mils" => Unit::Millennium,
        "epoch" => Unit::Epoch,
        "dow" => Unit::DayOfWeek,
        "isodow" => Unit::IsoDayOfWeek,
        "doy" => Unit::DayOfYear,
        "isoyear" => Unit::IsoYear,
        "julian" | "j" | "jd" => Unit::Julian,
        "timezone" => Unit::Timezone,
        "timezone_hour" => Unit::TimezoneHour,
        "timezone_minute" => Unit::TimezoneMinute,
        _ => {
            return Err(PgError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unit \"{name}\" not recognized for type {type_name}"),
            ));
        }
    })
}

fn unsupported_unit(name: &str, type_name: &str) -> PgError {
    PgError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{}\" not supported for type {type_name}", name.to_ascii_lowercase()),
    )
}

/// One field's value with its decimal places: `value * 10^-scale`.
type Field = (i128, u16);

fn whole(value: i64) -> Option<Field> {
    Some((value as i128, 0))
}

fn of_day(unit: Unit, days: i64) -> Option<Field> {
    let (year, month, day) = calendar::civil_from_days(days);
    match unit {
        Unit::Day => whole(day),
        Unit::Month => whole(month),
        Unit::Quarter => whole((month - 1) / 3 + 1),
        Unit::Week => whole(calendar::iso_week(days).1),
        Unit::Year => whole(if year > 0 { year } else { year - 1 }),
        Unit::IsoYear => {
            let year = calendar::iso_week(days).0;
            whole(if year > 0 { year } else { year - 1 })
        }
        Unit::Decade => whole(year.div_euclid(10)),
        Unit::Century => whole(if year > 0 { (year + 99) / 100 } else { -((99 - (year - 1)) / 100) }),
        Unit::Millennium => whole(if year > 0 { (year + 999) / 1000 } else { -((999 - (year - 1)) / 1000) }),
        Unit::DayOfWeek => whole(calendar::day_of_week(days)),
        Unit::IsoDayOfWeek => whole((calendar::day_of_week(days) + 6) % 7 + 1),
        Unit::DayOfYear => whole(days - calendar::days_from_civil(year, 1, 1) + 1),
        _ => None,
    }
}

fn of_time(unit: Unit, time: i64) -> Option<Field> {
    match unit {
        Unit::Microseconds => whole(time % MINUTE),
        Unit::Milliseconds => Some(((time % MINUTE) as i128, 3)),
        Unit::Second => Some(((time % MINUTE) as i128, 6)),
        Unit::Minute => whole(time % HOUR / MINUTE),
        Unit::Hour => whole(time / HOUR),
        _ => None,
    }
}

fn of_timestamp(unit: Unit, timestamp: i64, zoned: bool) -> Option<Field> {
    let (days, time) = calendar::split_timestamp(timestamp);
    match unit {
        Unit::Epoch => Some((timestamp as i128, 6)),
        Unit::Julian => {
            // The Julian day with its fraction of a day.
            let value = (days + 2_440_588) as i128 * 10i128.pow(20) + time as i128 * 10i128.pow(20) / DAY as i128;
            if time == 0 { whole(days + 2_440_588) } else { Some((value, 20)) }
        }
        // The clock is that of UTC.
        Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute if zoned => whole(0),
        unit => of_time(unit, time).or_else(|| of_day(unit, days)),
    }
}

fn of_interval(unit: Unit, interval: &Interval) -> Option<Field> {
    let (years, months) = (interval.months / 12, interval.months % 12);
    match unit {
        Unit::Epoch => {
            // A year counts 365.25 days, a month 30.
            let days =
                years as i128 * 1461 * (DAY / 4) as i128 + (months as i128 * 30 + interval.days as i128) * DAY as i128;
            Some((days + interval.micros as i128, 6))
        }
        Unit::Day => whole(interval.days as i64),
        Unit::Month => whole(months as i64),
        Unit::Quarter => whole((months / 3 + 1) as i64),
        Unit::Year => whole(years as i64),
        Unit::Decade => whole((years / 10) as i64),
        Unit::Century => whole((years / 100) as i64),
        Unit::Millennium => whole((years / 1000) as i64),
        Unit::Week => None,
        unit => of_time(unit, interval.micros),
    }
}

/// What an infinite moment gives: infinity for what grows without end, NULL for what goes round.
fn of_infinity(unit: Unit, negative: bool) -> Option<Numeric> {
    match unit {
        Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium | Unit::Epoch | Unit::IsoYear | Unit::Julian => {
            Some(if negative { Numeric::NegativeInfinity } else { Numeric::Infinity })
        }
        _ => None,
    }
}

/// Reads one field of the second argument, named by the first: a numeric, or NULL.
fn field_of(call: &Call, row: usize, units: &mut Cache<Unit>) -> Result<Option<Numeric>, PgError> {
    let name = call.text(0).get(row);
    let (array, _) = call.argument(1);
    let type_name = super::conversion::printed_type(array.data_type()).sql_name();
    let unit = *units.get(name, |name| unit(name, &type_name))?;
    let numeric = |(value, scale): Field| Numeric::from_parts(value, scale);
    let found = match array.data_type() {
        DataType::Date32 => match call.date(1).get(row) {
            calendar::DATE_INFINITY => return Ok(of_infinity(unit, false)),
            calendar::DATE_NEGATIVE_INFINITY => return Ok(of_infinity(unit, true)),
            date => match unit {
                Unit::Epoch => whole(date as i64 * 86_400),
                Unit::Julian => whole(date as i64 + 2_440_588),
                unit => of_day(unit, date as i64),
            },
        },
        DataType::Time64(_) => match unit {
            Unit::Epoch => Some((call.time(1).get(row) as i128, 6)),
            unit => of_time(unit, call.time(1).get(row)),
        },
        DataType::Interval(_) => of_interval(unit, &call.interval(1).get(row)),
        data_type => match call.timestamp(1).get(row) {
            calendar::INFINITY => return Ok(of_infinity(unit, false)),
            calendar::NEGATIVE_INFINITY => return Ok(of_infinity(unit, true)),
            timestamp => of_timestamp(unit, timestamp, matches!(data_type, DataType::Timestamp(_, Some(_)))),
        },
    };
    match found {
        Some(field) => Ok(Some(numeric(field))),
        None => Err(unsupported_unit(name, &type_name)),
    }
}

pub(crate) fn extract(call: &Call) -> Result<ArrayRef, PgError> {
    let mut units = Cache::new();
    call.map_numeric_nullable(|row| field_of(call, row, &mut units))
}

pub(crate) fn date_part(call: &Call) -> Result<ArrayRef, PgError> {
    let mut units = Cache::new();
    call.map_nullable::<Float64Type>(|row| Ok(field_of(call, row, &mut units)?.map(|value| value.to_f64())))
}

/// The start of the unit a timestamp lies in.
fn truncated(unit: Unit, timestamp: i64) -> Option<i64> {
    if calendar::is_infinite(timestamp) {
        return Some(timestamp);
    }
    let step = |size: i64| Some(timestamp - timestamp.rem_euclid(size));
    let (days, _) = calendar::split_timestamp(timestamp);
    let (year, month, _) = calendar::civil_from_days(days);
    let midnight = |days: i64| days.checked_mul(DAY);
    match unit {
        Unit::Microseconds => Some(timestamp),
        Unit::Milliseconds => step(1000),
        Unit::Second => step(SECOND),
        Unit::Minute => step(MINUTE),
        Unit::Hour => step(HOUR),
        Unit::Day => step(DAY),
        Unit::Week => midnight(days - (days + 3).rem_euclid(7)),
        Unit::Month => midnight(calendar::days_from_civil(year, month, 1)),
        Unit::Quarter => midnight(calendar::days_from_civil(year, (month - 1) / 3 * 3 + 1, 1)),
        Unit::Year => midnight(calendar::days_from_civil(year, 1, 1)),
        Unit::Decade => midnight(calendar::days_from_civil(year.div_euclid(10) * 10, 1, 1)),
        Unit::Century => {
            let first = if year > 0 { (year - 1) / 100 * 100 + 1 } else { -((99 - (year - 1)) / 100) * 100 + 1 };
            midnight(calendar::days_from_civil(first, 1, 1))
        }
        Unit::Millennium => {
            let first = if year > 0 { (year - 1) / 1000 * 1000 + 1 } else { -((999 - (year - 1)) / 1000) * 1000 + 1 };
            midnight(calendar::days_from_civil(first, 1, 1))
        }
        _ => None,
    }
}

pub(crate) fn date_trunc(call: &Call) -> Result<ArrayRef, PgError> {
    let (names, timestamps) = (call.text(0), call.timestamp(1));
    let zoned = matches!(call.argument(1).0.data_type(), DataType::Timestamp(_, Some(_)));
    let type_name = if zoned { "timestamp with time zone" } else { "timestamp without time zone" };
    let mut units = Cache::new();
    call.map::<TimestampMicrosecondType>(|row| {
        let unit = *units.get(names.get(row), |name| unit(name, type_name))?;
        truncated(unit, timestamps.get(row)).ok_or_else(|| unsupported_unit(names.get(row), type_name))
    })
}

/// date_trunc in a named zone.
pub(crate) fn date_trunc_zone(call: &Call) -> Result<ArrayRef, PgError> {
    let (names, timestamps, zones) = (call.text(0), call.timestamp(1), call.text(2));
    let (mut units, mut known) = (Cache::new(), Cache::new());
    let type_name = "timestamp with time zone";
    call.map::<TimestampMicrosecondType>(|row| {
        let unit = *units.get(names.get(row), |name| unit(name, type_name))?;
        let zone = known.get(zones.get(row), TimeZone::parse)?;
        let local = truncated(unit, zone.to_local(timestamps.get(row)))
            .ok_or_else(|| unsupported_unit(names.get(row), type_name))?;
        Ok(zone.from_local(local))
    })
}

pub(crate) fn interval_trunc(call: &Call) -> Result<ArrayRef, PgError> {
    let (names, intervals) = (call.text(0), call.interval(1));
    let mut units = Cache::new();
    call.map_interval(|row| {
        let unit = *units.get(names.get(row), |name| unit(name, "interval"))?;
        let mut value = intervals.get(row);
        let months = |size: i32, value: &Interval| value.months / size * size;
        let size = match unit {
            Unit::Microseconds => 1,
            Unit::Milliseconds => 1000,
            Unit::Second => SECOND,
            Unit::Minute => MINUTE,
            Unit::Hour => HOUR,
            Unit::Day => DAY,
            Unit::Month | Unit::Quarter | Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium => {
                let size = match unit {
                    Unit::Month => 1,
                    Unit::Quarter => 3,
                    Unit::Year => 12,
                    Unit::Decade => 120,
                    Unit::Century => 1200,
                    _ => 12_000,
                };
                return Ok(Interval { months: months(size, &value), days: 0, micros: 0 });
            }
            _ => return Err(unsupported_unit(names.get(row), "interval")),
        };
        value.micros = if size == DAY { 0 } else { value.micros / size * size };
        Ok(value)
    })
}

fn stride_micros(stride: &Interval) -> Result<i64, PgError> {
    if stride.months != 0 {
        return Err(PgError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let micros = i64::try_from(stride.span()).map_err(|_| field_overflow("interval out of range"))?;
    if micros <= 0 {
        return Err(field_overflow("stride must be greater than zero"));
    }
    Ok(micros)
}

pub(crate) fn date_bin(call: &Call) -> Result<ArrayRef, PgError> {
    let (strides, timestamps, origins) = (call.interval(0), call.timestamp(1), call.timestamp(2));
    call.map::<TimestampMicrosecondType>(|row| {
        let (timestamp, origin) = (timestamps.get(row), origins.get(row));
        if calendar::is_infinite(timestamp) {
            return Ok(timestamp);
        }
        if calendar::is_infinite(origin) {
            return Err(field_overflow("origin out of range"));
        }
        let stride = stride_micros(&strides.get(row))?;
        let distance = timestamp.checked_sub(origin).ok_or_else(timestamp_out_of_range)?;
        Ok(timestamp - distance.rem_euclid(stride))
    })
}

pub(crate) fn to_timestamp_epoch(call: &Call) -> Result<ArrayRef, PgError> {
    let seconds = call.float8(0);
    call.map::<TimestampMicrosecondType>(|row| {
        let seconds = seconds.get(row);
        if seconds.is_nan() {
            return Err(field_overflow("timestamp cannot be NaN"));
        }
        if seconds.is_infinite() {
            return Ok(if seconds > 0.0 { calendar::INFINITY } else { calendar::NEGATIVE_INFINITY });
        }
        let whole = seconds.floor();
        let micros = ((seconds - whole) * 1e6).round_ties_even();
        if !(-2.2e11..9.2e12).contains(&seconds) {
            return Err(field_overflow(&format!("timestamp out of range: \"{seconds}\"")));
        }
        Ok(whole as i64 * SECOND + micros as i64)
    })
}

fn date_from_fields(year: i32, month: i32, day: i32) -> Result<i64, PgError> {
    let invalid = || field_overflow(&format!("date field value out of range: {year}-{month:02}-{day:02}"));
    // Negative years are BC, and there is no year 0.
    let civil_year = match year {
        0 => return Err(invalid()),
        year if year < 0 => year as i64 + 1,
        year => year as i64,
    };
    let (month, day) = (month as i64, day as i64);
    if !(1..=12).contains(&month) || day < 1 || day > calendar::days_in_month(civil_year, month) {
        return Err(invalid());
    }
    let days = calendar::days_from_civil(civil_year, month, day);
    match (calendar::DATE_MIN..=calendar::DATE_MAX).contains(&days) {
        true => Ok(days),
        false => Err(invalid()),
    }
}

fn time_from_fields(hour: i32, minute: i32, second: f64) -> Result<i64, PgError> {
    let micros = (second * 1e6).round_ties_even();
    let valid = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60e6).contains(&micros);
    let time = hour as i64 * HOUR + minute as i64 * MINUTE + micros as i64;
    match valid && time <= DAY {
        true => Ok(time),
        false => Err(field_overflow(&format!("time field value out of range: {hour}:{minute:02}:{second:02}"))),
    }
}

pub(crate) fn make_date(call: &Call) -> Result<ArrayRef, PgError> {
    let (years, months, days) = (call.int4(0), call.int4(1), call.int4(2));
    call.map::<Date32Type>(|row| Ok(date_from_fields(years.get(row), months.get(row), days.get(row))? as i32))
}

pub(crate) fn make_time(call: &Call) -> Result<ArrayRef, PgError> {
    let (hours, minutes, seconds) = (call.int4(0), call.int4(1), call.float8(2));
    call.map::<Time64MicrosecondType>(|row| time_from_fields(hours.get(row), minutes.get(row), seconds.get(row)))
}

pub(crate) fn make_timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let (years, months, days) = (call.int4(0), call.int4(1), call.int4(2));
    let (hours, minutes, seconds) = (call.int4(3), call.int4(4), call.float8(5));
    call.map::<TimestampMicrosecondType>(|row| {
        let day = date_from_fields(years.get(row), months.get(row), days.get(row))?;
        let time = time_from_fields(hours.get(row), minutes.get(row), seconds.get(row))?;
        calendar::join_timestamp(day, time).ok_or_else(timestamp_out_of_range)
    })
}

/// A local clock's timestamp as an instant: `timestamp AT TIME ZONE zone`.
pub(crate) fn timestamp_at_zone(call: &Call) -> Result<ArrayRef, PgError> {
    let (zones, timestamps) = (call.text(0), call.timestamp(1));
    let mut known = Cache::new();
    call.map::<TimestampMicrosecondType>(|row| {
        Ok(known.get(zones.get(row), posix_zone)?.from_local(timestamps.get(row)))
    })
}

/// An instant as a local clock shows it: `timestamptz AT TIME ZONE zone`.
pub(crate) fn timestamptz_at_zone(call: &Call) -> Result<ArrayRef, PgError> {
    let (zones, timestamps) = (call.text(0), call.timestamp(1));
    let mut known = Cache::new();
    call.map::<TimestampMicrosecondType>(|row| Ok(known.get(zones.get(row), posix_zone)?.to_local(timestamps.get(row))))
}

/// A zone named in SQL: a bare offset there has POSIX's sign, positive being west.
fn posix_zone(name: &str) -> Result<TimeZone, PgError> {
    match TimeZone::parse(name)? {
        TimeZone::Fixed(seconds) if name.trim_start().starts_with(['+', '-']) => Ok(TimeZone::Fixed(-seconds)),
        zone => Ok(zone),
    }
}

pub(crate) fn is_finite_timestamp(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.timestamp(0);
    call.map_bool(|row| Ok(!calendar::is_infinite(values.get(row))))
}

pub(crate) fn is_finite_date(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.date(0);
    call.map_bool(|row| Ok(!calendar::is_infinite_date(values.get(row))))
}
