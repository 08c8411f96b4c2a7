//! Instants: one type, one parser, and one form of fixed width for keys.
//!
//! Devices send RFC 3339 with up to nine fraction digits, and the clock of a device may start at
//! 1970. Keys sort as text and therefore have a fixed width, which requires years of four digits.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Seconds of an hour.
pub const HOUR_S: i64 = 3_600;

/// Seconds of a day in UTC, without leap seconds.
pub const DAY_S: i64 = 24 * HOUR_S;

/// Parses a duration of whole seconds, minutes, hours, days or weeks, such as `90s`, `15m`, `1h`,
/// `7d` or `1w`, into seconds.
pub fn parse_duration_s(text: &str) -> Option<i64> {
    let unit_s = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => HOUR_S,
        'd' => DAY_S,
        'w' => 7 * DAY_S,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i64>().ok()?.checked_mul(unit_s)
}

/// An instant in UTC with nanosecond resolution, in the years 0001 to 9999.
///
/// Serializes as RFC 3339 with `Z` and no trailing zeros in the fraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "jiff::Timestamp", into = "jiff::Timestamp")]
pub struct Timestamp(jiff::Timestamp);

/// The text or number is not a valid [`Timestamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not an RFC 3339 date and time in the years 0001 to 9999")]
pub struct InvalidTimestamp;

impl TryFrom<jiff::Timestamp> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(instant: jiff::Timestamp) -> Result<Self, InvalidTimestamp> {
        let year = Offset::UTC.to_datetime(instant).year();
        if (1..=9999).contains(&year) { Ok(Self(instant)) } else { Err(InvalidTimestamp) }
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(t: Timestamp) -> Self {
        t.0
    }
}

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// The current time of the system clock. Pure functions take the time as an argument instead.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Parses RFC 3339 with an offset, as docs/protocol.md requires in version 2.
    ///
    /// # Errors
    ///
    /// The text has another form, or the year is out of range.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        // jiff accepts RFC 9557 annotations ("…[Europe/Berlin]"), which the protocol does not
        // allow.
        if text.contains('[') {
            return Err(InvalidTimestamp);
        }
        text.parse::<jiff::Timestamp>().map_err(|_| InvalidTimestamp)?.try_into()
    }

    /// Parses RFC 3339; a missing offset means UTC, as docs/protocol.md allows in version 1.
    ///
    /// # Errors
    ///
    /// The text has another form, or the year is out of range.
    pub fn parse_or_utc(text: &str) -> Result<Self, InvalidTimestamp> {
        Self::parse(text).or_else(|bad| {
            let civil: jiff::civil::DateTime = text.parse().map_err(|_| bad.clone())?;
            // A text whose offset is invalid must not be read as UTC.
            if text.len() < "2026-01-01T00:00".len() || text.contains('[') {
                return Err(bad);
            }
            let tail = text.get("2026-01-01".len()..).unwrap_or_default();
            if tail.contains(['+', '-', 'Z', 'z']) {
                return Err(bad);
            }
            Offset::UTC.to_timestamp(civil).map_err(|_| bad)?.try_into()
        })
    }

    /// Converts milliseconds since the epoch, the unit of `timestamp()` in IoT Core SQL.
    ///
    /// # Errors
    ///
    /// The year is out of range.
    pub fn from_millis(ms: i64) -> Result<Self, InvalidTimestamp> {
        jiff::Timestamp::from_millisecond(ms).map_err(|_| InvalidTimestamp)?.try_into()
    }

    /// Converts nanoseconds since the epoch.
    ///
    /// # Errors
    ///
    /// The year is out of range.
    pub fn from_nanos(ns: i128) -> Result<Self, InvalidTimestamp> {
        jiff::Timestamp::from_nanosecond(ns).map_err(|_| InvalidTimestamp)?.try_into()
    }

    /// Milliseconds since the epoch, truncated towards zero.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Seconds since the epoch, truncated towards zero.
    pub fn as_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Nanoseconds since the epoch.
    pub fn as_nanos(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// The instant `seconds` later, limited to the representable range.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        let ns = self.as_nanos().saturating_add(i128::from(seconds) * NANOS_PER_SECOND);
        Self::from_nanos(ns).unwrap_or(if seconds < 0 { Self::min() } else { Self::max() })
    }

    /// The instant one nanosecond later.
    pub fn next(self) -> Self {
        Self::from_nanos(self.as_nanos() + 1).unwrap_or(self)
    }

    /// The earliest instant.
    pub fn min() -> Self {
        Self::start_of_day(Date::constant(1, 1, 1))
    }

    /// An instant later than any that a device can send; the end of an open range.
    pub fn max() -> Self {
        Self::start_of_day(Date::constant(9999, 12, 30))
    }

    /// Midnight in UTC at the start of `day`.
    pub fn start_of_day(day: Date) -> Self {
        // Every day of the years 1 to 9999 has a midnight in UTC, so the fallback is never used.
        Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).map_or(Self::EPOCH, Self)
    }

    /// The date in UTC.
    pub fn day(self) -> Date {
        Offset::UTC.to_datetime(self.0).date()
    }

    /// The hour of the day in UTC, 0 to 23.
    pub fn hour(self) -> i8 {
        Offset::UTC.to_datetime(self.0).hour()
    }

    /// The last multiple of `seconds` since the epoch at or before this instant.
    pub fn floor(self, seconds: u32) -> Self {
        let step = i128::from(seconds.max(1)) * NANOS_PER_SECOND;
        let ns = self.as_nanos();
        Self::from_nanos(ns - ns.rem_euclid(step)).unwrap_or_else(|_| Self::min())
    }

    /// RFC 3339 with nine fraction digits, for keys: texts sort as the instants do.
    pub fn key(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
    }

    /// Fixed width without colons or hyphens, for file names (`20260101T120000.000000000Z`).
    pub fn file_stem(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%S.%9fZ").to_string()
    }

    /// Parses the result of [`Timestamp::file_stem`].
    ///
    /// # Errors
    ///
    /// The text has another form, or the year is out of range.
    pub fn from_file_stem(text: &str) -> Result<Self, InvalidTimestamp> {
        let digits = |range: std::ops::Range<usize>| {
            text.get(range)
                .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
                .ok_or(InvalidTimestamp)
        };
        if text.len() != "20260101T120000.000000000Z".len() || !text.is_ascii() {
            return Err(InvalidTimestamp);
        }
        if &text[8..9] != "T" || &text[15..16] != "." || &text[25..] != "Z" {
            return Err(InvalidTimestamp);
        }
        let time = Self::parse(&format!(
            "{}-{}-{}T{}:{}:{}.{}Z",
            digits(0..4)?,
            digits(4..6)?,
            digits(6..8)?,
            digits(9..11)?,
            digits(11..13)?,
            digits(13..15)?,
            digits(16..25)?
        ))?;
        // A leap second parses as the second before it and would be a second name for the same
        // instant.
        if time.file_stem() == text { Ok(time) } else { Err(InvalidTimestamp) }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_offset_is_utc_in_version_1_and_invalid_in_version_2() {
        assert_eq!(Timestamp::parse("2026-01-01T00:00:00"), Err(InvalidTimestamp));
        assert_eq!(
            Timestamp::parse_or_utc("2026-01-01T00:00:00.5"),
            Timestamp::parse("2026-01-01T00:00:00.5Z")
        );
        assert_eq!(
            Timestamp::parse_or_utc("2026-01-01T01:00:00+01:00"),
            Timestamp::parse("2026-01-01T00:00:00Z")
        );
        for bad in ["", "now", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+99:00"] {
            assert_eq!(Timestamp::parse_or_utc(bad), Err(InvalidTimestamp), "{bad}");
        }
    }

    #[test]
    fn time_before_the_epoch_is_floored_downwards() {
        let t = Timestamp::parse("1970-01-01T00:00:00+01:00").unwrap();
        assert_eq!(t.to_string(), "1969-12-31T23:00:00Z");
        assert_eq!(t.floor(300).to_string(), "1969-12-31T23:00:00Z");
    }

    #[test]
    fn leap_second_is_the_second_before_it_and_not_a_file_stem() {
        let before = Timestamp::parse("2016-12-31T23:59:59Z").unwrap();
        assert_eq!(Timestamp::parse("2016-12-31T23:59:60Z"), Ok(before));
        let stem = before.file_stem();
        assert_eq!(Timestamp::from_file_stem(&stem), Ok(before));
        assert_eq!(Timestamp::from_file_stem(&stem.replace("59.", "60.")), Err(InvalidTimestamp));
    }

    proptest! {
        #[test]
        fn keys_and_file_stems_sort_as_the_instants_do(a in -62_135_596_800_000_000_000i128..253_402_000_000_000_000_000, b in -62_135_596_800_000_000_000i128..253_402_000_000_000_000_000) {
            let (a, b) = (Timestamp::from_nanos(a).unwrap(), Timestamp::from_nanos(b).unwrap());
            prop_assert_eq!(a.cmp(&b), a.key().cmp(&b.key()));
            prop_assert_eq!(Timestamp::parse(&a.key()), Ok(a));
            prop_assert_eq!(Timestamp::from_file_stem(&b.file_stem()), Ok(b));
        }

        #[test]
        fn parsers_do_not_panic_on_any_text(text in "\\PC{0,40}") {
            let _ = Timestamp::parse(&text);
            let _ = Timestamp::parse_or_utc(&text);
            let _ = Timestamp::from_file_stem(&text);
        }
    }
}
