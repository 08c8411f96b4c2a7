//! Prefixes of message names, `{category}/{ts}-{message_id}.json`, and the time range that a prefix
//! limits the reads to.

use meter_domain::message::Category;
use meter_domain::time::Timestamp;
use meter_http::range::TimeRange;

/// The form of the time in a message name.
const TIME_FORMAT: &str = "00000000T000000.000000000Z";

/// A prefix of names.
#[derive(Debug, Clone)]
pub(super) struct Prefix {
    text: String,
    /// A range that contains the time of every message with this prefix.
    pub(super) range: TimeRange,
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Self {
        Self { text: text.to_owned(), range: range(text).unwrap_or(TimeRange::all()) }
    }

    /// Whether the names of a category can have this prefix.
    pub(super) fn can_match(&self) -> bool {
        Category::ALL.into_iter().any(|category| {
            let folder = format!("{category}/");
            folder.starts_with(&self.text) || self.text.starts_with(&folder)
        })
    }

    /// Whether a name has this prefix.
    pub(super) fn matches(&self, name: &str) -> bool {
        name.starts_with(&self.text)
    }
}

/// The time range of a prefix with a category and the beginning of a time, in whole minutes.
fn range(text: &str) -> Option<TimeRange> {
    let (_, stem) = text.split_once('/')?;
    // The length of the complete units in the prefix: year, month, day, hour, minute.
    let given = [13, 11, 8, 6, 4].into_iter().find(|len| stem.len() >= *len)?;
    let given = stem.get(..given)?;
    let first = Timestamp::from_file_stem(&complete_time(given, "00000101T000000.000000000Z")?);
    let start = first.ok()?;
    let year = || given[..4].parse::<i16>().ok();
    let month = || given[4..6].parse::<i8>().ok();
    let stop = match given.len() {
        4 => month_start(year()?.checked_add(1)?, 1)?,
        6 if month()? == 12 => month_start(year()?.checked_add(1)?, 1)?,
        6 => month_start(year()?, month()? + 1)?,
        8 => start.plus_seconds(86_400),
        11 => start.plus_seconds(3_600),
        _ => start.plus_seconds(60),
    };
    Some(TimeRange { start, stop })
}

/// The first instant of a month.
fn month_start(year: i16, month: i8) -> Option<Timestamp> {
    let day = jiff::civil::Date::new(year, month, 1).ok()?;
    Some(Timestamp::start_of_day(day))
}

/// Completes the beginning of a time with the rest of `first`.
fn complete_time(given: &str, first: &str) -> Option<String> {
    debug_assert_eq!(first.len(), TIME_FORMAT.len());
    Some(format!("{given}{}", first.get(given.len()..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(text: &str) -> (String, String) {
        let range = Prefix::parse(text).range;
        (range.start.to_string(), range.stop.to_string())
    }

    #[test]
    fn prefix_with_a_time_limits_the_range() {
        for (text, start, stop) in [
            ("telemetry/2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("telemetry/20261", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("telemetry/202602", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("telemetry/202612", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("telemetry/20260228T", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("hello/20260228T23", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"),
            ("hello/20260228T2359", "2026-02-28T23:59:00Z", "2026-03-01T00:00:00Z"),
            ("hello/20260228T235958.1", "2026-02-28T23:59:00Z", "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(bounds(text), (start.to_owned(), stop.to_owned()), "{text}");
        }
        let all = TimeRange::all();
        for text in ["", "telemetry", "telemetry/", "telemetry/202", "telemetry/2026-02", "x/éé"]
        {
            assert_eq!(Prefix::parse(text).range, all, "{text}");
        }
    }

    #[test]
    fn prefix_of_no_category_matches_no_message() {
        for text in ["", "t", "telemetry", "telemetry/", "telemetry/2026", "s"] {
            assert!(Prefix::parse(text).can_match(), "{text}");
        }
        for text in ["x", "telemetryx", "/", "dc-meter-001/telemetry", "Telemetry/"] {
            assert!(!Prefix::parse(text).can_match(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn time_of_a_matching_name_is_in_the_range(seconds in -60_000_000_000i64..250_000_000_000, nanos in 0i128..1_000_000_000, cut in 0usize..40) {
            let ts = Timestamp::from_nanos(i128::from(seconds) * 1_000_000_000 + nanos).unwrap();
            let name = format!("telemetry/{}-0123456789abcdef0123456789abcdef.json", ts.file_stem());
            let prefix = Prefix::parse(&name[..cut]);
            prop_assert!(prefix.can_match() && prefix.matches(&name));
            prop_assert!(prefix.range.start <= ts && ts < prefix.range.stop, "{:?}", prefix.range);
        }

        #[test]
        fn any_text_is_parsed(text in any::<String>(), stem in "telemetry/[0-9T]{0,30}") {
            Prefix::parse(&text).can_match();
            Prefix::parse(&stem).can_match();
        }
    }
}
