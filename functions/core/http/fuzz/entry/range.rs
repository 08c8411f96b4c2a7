//! Time ranges. A range begins before it ends or is refused with 400, and reads the same from its own
//! text.
//!
//! An input is three lines: `start`, `stop`, and the time of the request.

use meter_domain::time::Timestamp;
use meter_http::range::{TimeRange, parse_time};
use meter_http::{Problem, Request, testing};

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
    let request = request(start, stop, now);
    for read in [TimeRange::from_request_or_last_hour, TimeRange::from_request_or_all] {
        is_a_range_or_a_clients_mistake(read(&request), now);
    }
}

fn request(start: &str, stop: &str, now: Timestamp) -> Request {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("start", start)
        .append_pair("stop", stop)
        .finish();
    testing::raw("GET", "/x", &query).at(&now.to_string()).request()
}

fn is_a_range_or_a_clients_mistake(range: Result<TimeRange, Problem>, now: Timestamp) {
    match range {
        Ok(range) => {
            assert!(range.start < range.stop);
            assert_eq!(range.intersect(range), range);
            let again = request(&range.start.to_string(), &range.stop.to_string(), now);
            assert_eq!(TimeRange::from_request_or_all(&again), Ok(range));
            assert_eq!(TimeRange::from_request_or_last_hour(&again), Ok(range));
        }
        Err(problem) => {
            assert_eq!(problem.status, 400);
            assert!(matches!(problem.field.as_deref(), Some("start" | "stop")));
        }
    }
}
