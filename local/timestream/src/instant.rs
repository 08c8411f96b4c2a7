//! Instants as nanoseconds since the epoch, and their text forms.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

pub(crate) const NANOS_PER_SECOND: i64 = 1_000_000_000;
pub(crate) const NANOS_PER_HOUR: i64 = 3_600 * NANOS_PER_SECOND;
pub(crate) const NANOS_PER_DAY: i64 = 24 * NANOS_PER_HOUR;

/// Returns the current time.
pub(crate) fn now() -> i64 {
    nanos(Timestamp::now()).unwrap_or(i64::MAX)
}

/// Returns `None` before the year 1677 and after 2262.
pub(crate) fn nanos(at: Timestamp) -> Option<i64> {
    i64::try_from(at.as_nanosecond()).ok()
}

/// Returns the calendar date and time in UTC.
pub(crate) fn civil(nanos: i64) -> DateTime {
    // Every i64 of nanoseconds is within the range of jiff.
    let at = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    TimeZone::UTC.to_datetime(at)
}

/// Converts a calendar date and time in UTC; `None` outside the years 1677 to 2262.
pub(crate) fn from_civil(at: DateTime) -> Option<i64> {
    nanos(TimeZone::UTC.to_timestamp(at).ok()?)
}

/// Formats an instant as `2023-11-14 22:13:20.123456789`.
pub(crate) fn timestamp(nanos: i64) -> String {
    let at = civil(nanos);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:09}",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.subsec_nanosecond()
    )
}

/// Formats an instant as `2023-11-14T22:13:20.123456789Z`.
pub(crate) fn iso8601(nanos: i64) -> String {
    timestamp(nanos).replacen(' ', "T", 1) + "Z"
}

/// Formats the date of an instant as `2023-11-14`.
pub(crate) fn date(nanos: i64) -> String {
    let at = civil(nanos);
    format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day())
}

/// Formats nanoseconds since midnight as `22:13:20.123456789`.
pub(crate) fn time_of_day(nanos: i64) -> String {
    let text = timestamp(nanos.rem_euclid(NANOS_PER_DAY));
    text.split_once(' ').map(|(_, time)| time.to_owned()).unwrap_or(text)
}

/// Parses a TIMESTAMP literal: a date, or a date and a time separated by a space or a T, in UTC.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.parse::<DateTime>() {
        Ok(at) => from_civil(at),
        Err(_) => from_civil(text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight())),
    }
}

/// Parses the argument of `from_iso8601_timestamp`, which is in UTC unless it has an offset.
pub(crate) fn parse_iso8601(text: &str) -> Option<i64> {
    match text.parse::<Timestamp>() {
        Ok(at) => nanos(at),
        Err(_) => parse_timestamp(text),
    }
}

/// Parses a date such as `2023-11-14` as days since the epoch.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let date = text.trim().parse::<Date>().ok()?;
    Some(from_civil(date.to_datetime(jiff::civil::Time::midnight()))?.div_euclid(NANOS_PER_DAY))
}

/// Adds calendar months; the day becomes the last one of a shorter month.
pub(crate) fn add_months(nanos: i64, months: i64) -> Option<i64> {
    let span = jiff::Span::new().try_months(months).ok()?;
    from_civil(civil(nanos).checked_add(span).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamp_literal_is_a_date_with_or_without_a_time() {
        for (text, nanos) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01 00:00:01", Some(NANOS_PER_SECOND)),
            ("1970-01-01T00:00:00.000000001", Some(1)),
            ("1970-01-01 25:00:00", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse_timestamp(text), nanos, "{text}");
        }
    }

    #[test]
    fn iso8601_timestamp_can_have_an_offset() {
        assert_eq!(parse_iso8601("1970-01-01T01:00:01+01:00"), Some(NANOS_PER_SECOND));
        assert_eq!(parse_iso8601("1970-01-01T00:00:01Z"), Some(NANOS_PER_SECOND));
        assert_eq!(parse_iso8601("1970-01-01T00:00:01"), Some(NANOS_PER_SECOND));
    }

    #[test]
    fn added_months_keep_the_day_or_use_the_last_of_the_month() {
        let january = parse_timestamp("2024-01-31").unwrap();
        assert_eq!(add_months(january, 1), parse_timestamp("2024-02-29"));
        assert_eq!(add_months(january, -2), parse_timestamp("2023-11-30"));
    }

    proptest! {
        #[test]
        fn text_of_an_instant_parses_to_the_same_instant(nanos in 0_i64..i64::MAX) {
            prop_assert_eq!(parse_timestamp(&timestamp(nanos)), Some(nanos));
            prop_assert_eq!(parse_iso8601(&iso8601(nanos)), Some(nanos));
        }
    }
}
