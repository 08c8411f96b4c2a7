//! Invariants of times and file names: a parsed time parses as the same time from each of its
//! written forms, and each message has exactly one file name.

use meter_domain::archive::{file_name, parse_file_name};
use meter_domain::time::Timestamp;

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let strict = Timestamp::parse(&text);
    let lenient = Timestamp::parse_or_utc(&text);
    match (&strict, &lenient) {
        (Ok(_), _) => assert_eq!(strict, lenient),
        (Err(_), Ok(time)) => {
            assert_eq!(
                Timestamp::parse(&format!("{text}Z")).as_ref(),
                Ok(time),
                "a missing offset means UTC"
            );
        }
        (Err(_), Err(_)) => {}
    }
    if let Ok(time) = lenient {
        assert_round_trip(time);
    }
    if let Ok(time) = Timestamp::from_file_stem(&text) {
        assert_round_trip(time);
        assert_eq!(time.file_stem(), text, "two names for one time");
    }
    if let Some((category, time, message_id)) = parse_file_name(&text) {
        assert_eq!(file_name(category, time, message_id), text, "two names for one message");
    }
}

fn assert_round_trip(time: Timestamp) {
    assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
    assert_eq!(Timestamp::parse(&time.key()), Ok(time));
    assert_eq!(time.key().len(), "2026-03-01T12:00:00.000000000Z".len(), "keys have a fixed width");
    assert_eq!(Timestamp::from_file_stem(&time.file_stem()), Ok(time));
    assert_eq!(Timestamp::from_nanos(time.as_nanos()), Ok(time));
    assert!(Timestamp::start_of_day(time.day()) <= time);
    assert!(time.floor(300) <= time && time.floor(1).as_nanos() <= time.as_nanos());
    assert!(time.next() >= time);
}
