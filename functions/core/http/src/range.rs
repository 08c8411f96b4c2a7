//! Time ranges: `start` and `stop` of a request (docs/api.md).

use meter_domain::time::{Timestamp, parse_duration_s};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::request::Request;

/// From `start` on, up to but without `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first instant inside.
    pub start: Timestamp,
    /// The first instant outside.
    pub stop: Timestamp,
}

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration before now (-90s -15m -1h -7d), now(), or an RFC 3339 date and time")]
pub struct InvalidTime;

impl TimeRange {
    /// Every instant.
    pub fn all() -> Self {
        Self { start: Timestamp::min(), stop: Timestamp::max() }
    }

    /// The request's range; without `stop` until now, without `start` the last hour of it.
    pub fn from_request_or_last_hour(request: &Request) -> Result<Self, Problem> {
        let stop = parameter(request, "stop")?.unwrap_or(request.now);
        let start = parameter(request, "start")?.unwrap_or(stop.plus_seconds(-3_600));
        Self { start, stop }.validated()
    }

    /// The request's range; without `stop` and `start` everything.
    pub fn from_request_or_all(request: &Request) -> Result<Self, Problem> {
        let all = Self::all();
        Self {
            start: parameter(request, "start")?.unwrap_or(all.start),
            stop: parameter(request, "stop")?.unwrap_or(all.stop),
        }
        .validated()
    }

    /// The range of a body's `start` and `stop`; without `stop` until now, without `start` the `seconds` before it.
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

    /// What both ranges have in common; may be empty, with `start` not before `stop`.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), stop: self.stop.min(other.stop) }
    }
}

fn parameter(request: &Request, name: &str) -> Result<Option<Timestamp>, Problem> {
    parse_named(name, request.query.get(name), request.now)
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

/// Reads a time as docs/api.md allows it.
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

/// A `+` in a query means a blank, and few clients escape the one of `+01:00`.
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
    use crate::testing;

    fn t(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_time_is_a_duration_before_now_or_now_or_a_date() {
        let now = t("2026-03-10T12:00:00Z");
        for (text, wanted) in [
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
            assert_eq!(parse_time(text, now), Ok(t(wanted)), "{text}");
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
    fn a_range_defaults_to_the_last_hour_and_never_ends_before_it_begins() {
        let last_hour = |query: &str| {
            let call = testing::get(&format!("/x?{query}")).at("2026-03-10T12:00:00Z");
            TimeRange::from_request_or_last_hour(&call.request())
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
        assert_eq!(
            TimeRange::from_request_or_all(&testing::get("/x").request()),
            Ok(TimeRange::all())
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), digits in "-[0-9]{0,25}[smhd]?") {
            let _ = parse_time(&text, Timestamp::EPOCH);
            let _ = parse_time(&digits, Timestamp::EPOCH);
        }

        #[test]
        fn a_date_reads_as_it_is_written(seconds in -60_000_000_000i64..250_000_000_000) {
            let time = Timestamp::EPOCH.plus_seconds(seconds);
            prop_assert_eq!(parse_time(&time.to_string(), Timestamp::max()), Ok(time));
        }
    }
}
