//! Time ranges: `start` and `stop` of a request (docs/api.md).

use meter_domain::time::{Timestamp, parse_duration_s};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::Fields;
use super::problem::Problem;

/// The length of a range without `start`, in seconds.
const HOUR_S: u32 = 3_600;

/// The instants from `start` to `stop`, without `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first instant of the range.
    pub start: Timestamp,
    /// The first instant after the range.
    pub stop: Timestamp,
}

/// A text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration before now (-90s -15m -1h -7d), now(), or an RFC 3339 date and time")]
pub struct InvalidTime;

impl TimeRange {
    /// Every instant.
    pub fn all() -> Self {
        Self { start: Timestamp::min(), stop: Timestamp::max() }
    }

    /// The range of a query; its default is the last hour before `stop`, which defaults to `now`.
    ///
    /// # Errors
    /// 400 if a time is invalid or `start` is not before `stop`.
    pub fn from_fields_or_last_hour(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem> {
        Self::from_strings(text(fields, "start"), text(fields, "stop"), HOUR_S, now)
    }

    /// The range of a query; it is unbounded without `start` and without `stop`.
    ///
    /// # Errors
    /// As [`TimeRange::from_fields_or_last_hour`].
    pub fn from_fields_or_all(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem> {
        let all = Self::all();
        let time = |name| parse_named(name, text(fields, name), now);
        Self { start: time("start")?.unwrap_or(all.start), stop: time("stop")?.unwrap_or(all.stop) }
            .validated()
    }

    /// The range of two times; `stop` defaults to `now`, `start` to `seconds` before it.
    ///
    /// # Errors
    /// As [`TimeRange::from_fields_or_last_hour`].
    pub fn from_strings(
        start: Option<&str>,
        stop: Option<&str>,
        seconds: u32,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let stop = parse_named("stop", stop, now)?.unwrap_or(now);
        let before = || stop.plus_seconds(-i64::from(seconds));
        Self { start: parse_named("start", start, now)?.unwrap_or_else(before), stop }.validated()
    }

    fn validated(self) -> Result<Self, Problem> {
        if self.start < self.stop {
            Ok(self)
        } else {
            Err(Problem::field(
                "start",
                format!("is {}, not before stop, {}", self.start, self.stop),
            ))
        }
    }

    /// The instants of both ranges. An empty intersection has a `start` that is not before `stop`.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), stop: self.stop.min(other.stop) }
    }
}

fn text<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}

fn parse_named(
    name: &str,
    text: Option<&str>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    text.map(|text| parse_time(text, now))
        .transpose()
        .map_err(|bad| Problem::field(name, bad.to_string()))
}

/// Parses a time of docs/api.md: RFC 3339, `now()` or a duration before `now`.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, InvalidTime> {
    if text == "now()" {
        return Ok(now);
    }
    if let Some(duration) = text.strip_prefix('-') {
        // A range does not accept weeks (docs/api.md).
        let seconds = parse_duration_s(duration).filter(|_| !duration.ends_with('w'));
        return Ok(now.plus_seconds(-seconds.ok_or(InvalidTime)?));
    }
    Timestamp::parse(&restore_plus(text)).map_err(|_| InvalidTime)
}

/// A `+` in a query is a blank, and few clients escape the one of `+01:00`.
fn restore_plus(text: &str) -> String {
    match text.rsplit_once(' ') {
        Some((time, offset)) if time.contains(['T', 't']) => format!("{time}+{offset}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::Query;

    fn t(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn time_is_a_duration_before_now_or_now_or_a_date() {
        let now = t("2026-03-10T12:00:00Z");
        for (text, expected) in [
            ("now()", "2026-03-10T12:00:00Z"),
            ("-0s", "2026-03-10T12:00:00Z"),
            ("-90s", "2026-03-10T11:58:30Z"),
            ("-15m", "2026-03-10T11:45:00Z"),
            ("-1h", "2026-03-10T11:00:00Z"),
            ("-24h", "2026-03-09T12:00:00Z"),
            ("-7d", "2026-03-03T12:00:00Z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.5Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00 01:00", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse_time(text, now), Ok(t(expected)), "{text}");
        }
        for text in [
            "",
            "-",
            "-h",
            "1h",
            "-1",
            "-1w",
            "-1.5h",
            "--1h",
            "-+1h",
            "- 1h",
            "now",
            "NOW()",
            "-1é",
            "-99999999999999999999d",
            "-9223372036854775807d",
            "2026-01-01",
            "2026-01-01T00:00:00",
        ] {
            assert_eq!(parse_time(text, now), Err(InvalidTime), "{text}");
        }
    }

    #[test]
    fn range_defaults_to_the_last_hour_and_starts_before_its_end() {
        let now = t("2026-03-10T12:00:00Z");
        let last_hour = |query: &str| {
            let object = Query::parse(query).to_object();
            TimeRange::from_fields_or_last_hour(&Fields::new(&object), now)
        };
        let range = last_hour("").unwrap();
        assert_eq!(
            (range.start, range.stop),
            (t("2026-03-10T11:00:00Z"), t("2026-03-10T12:00:00Z"))
        );
        let range = last_hour("stop=2020-01-01T00:00:00Z").unwrap();
        assert_eq!(range.start, t("2019-12-31T23:00:00Z"));
        for (query, field) in [
            ("start=-1h&stop=-1h", "start"),
            ("start=-1h&stop=-2h", "start"),
            ("start=soon", "start"),
            ("stop=soon", "stop"),
        ] {
            let problem = last_hour(query).unwrap_err();
            assert_eq!(problem.status, 400);
            assert_eq!(problem.field.as_deref(), Some(field), "{query}");
        }
        let none = Default::default();
        let all = TimeRange::from_fields_or_all(&Fields::new(&none), now);
        assert_eq!(all, Ok(TimeRange::all()));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>(), digits in "-[0-9]{0,25}[smhd]?") {
            let _ = parse_time(&text, Timestamp::EPOCH);
            let _ = parse_time(&digits, Timestamp::EPOCH);
        }

        #[test]
        fn date_is_parsed_as_it_is_written(seconds in -60_000_000_000i64..250_000_000_000) {
            let time = Timestamp::EPOCH.plus_seconds(seconds);
            prop_assert_eq!(parse_time(&time.to_string(), Timestamp::max()), Ok(time));
        }
    }
}
