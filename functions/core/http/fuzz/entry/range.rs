//! Time ranges. A range starts before it ends or is refused with 400, and its text is parsed to the
//! same range.
//!
//! An input is three lines: `start`, `stop`, and the time of the request.

use meter_domain::time::Timestamp;
use meter_http::Problem;
use meter_http::fields::Fields;
use meter_http::page::Query;
use meter_http::range::{TimeRange, parse_time};
use serde_json::{Map, Value};

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (start, stop, now) = (line(), line(), line());
    let now = Timestamp::parse(now).unwrap_or(Timestamp::EPOCH.plus_seconds(1_772_366_400));

    for text in [start, stop] {
        if let Ok(time) = parse_time(text, now) {
            assert!(!text.starts_with('-') || time <= now, "{text} is not before now");
            assert_eq!(parse_time(&time.to_string(), now), Ok(time));
        }
    }
    let query = query(start, stop);
    let fields = Fields::new(&query);
    for read in [TimeRange::from_fields_or_last_hour, TimeRange::from_fields_or_all] {
        is_a_range_or_a_client_error(read(&fields, now), now);
    }
}

fn query(start: &str, stop: &str) -> Map<String, Value> {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("start", start)
        .append_pair("stop", stop)
        .finish();
    Query::parse(&query).to_object()
}

fn is_a_range_or_a_client_error(range: Result<TimeRange, Problem>, now: Timestamp) {
    match range {
        Ok(range) => {
            assert!(range.start < range.stop);
            assert_eq!(range.intersect(range), range);
            let again = query(&range.start.to_string(), &range.stop.to_string());
            let again = Fields::new(&again);
            assert_eq!(TimeRange::from_fields_or_all(&again, now), Ok(range));
            assert_eq!(TimeRange::from_fields_or_last_hour(&again, now), Ok(range));
        }
        Err(problem) => {
            assert_eq!(problem.status, 400);
            assert!(matches!(problem.field.as_deref(), Some("start" | "stop")));
        }
    }
}
