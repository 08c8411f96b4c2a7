//! Invariants of messages: a valid message is packed in each layout, found and parsed again, and
//! split into segments that contain each sample once; the bytes of an invalid message are returned
//! from quarantine unchanged.
//!
//! An input is a batch of records separated by RS (0x1E, which JSON text cannot contain). A record
//! is a topic, a line break and a payload.

use std::collections::{BTreeMap, BTreeSet};

use meter_domain::archive::{self, ArchiveObject, Layout, Location};
use meter_domain::id::MessageId;
use meter_domain::message::{self, Body, MAX_AHEAD_S, MAX_MEASUREMENTS, Message, ReceivedMessage};
use meter_domain::metric::MetricName;
use meter_domain::segments;
use meter_domain::segments::SEGMENT_SECONDS;
use meter_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Enough records for several devices, hours and repeats.
const MAX_RECORDS: usize = 16;
/// 2026-03-01T12:00:00Z.
const FIRST_RECEIVED_S: i64 = 1_772_366_400;
/// Seconds between two records, so that a batch spans several hours and objects.
const RECORD_INTERVAL_S: i64 = 1_500;

pub(crate) fn run(input: &[u8]) {
    let mut valid = BTreeMap::new();
    let mut invalid = BTreeMap::new();
    let records = input.split(|byte| *byte == 0x1E).take(MAX_RECORDS);
    for (index, record) in (0_i64..).zip(records) {
        let received = received(record, FIRST_RECEIVED_S + index * RECORD_INTERVAL_S);
        match message::parse(&received) {
            Ok(message) => {
                assert_valid(&message);
                valid.entry(message.message_id).or_insert(message);
            }
            Err(reason) => {
                assert!(!reason.to_string().is_empty());
                let message_id = MessageId::of(&received.topic, &received.payload);
                invalid.entry(message_id).or_insert((received, reason));
            }
        }
    }

    let messages: Vec<_> = valid.values().collect();
    for layout in [Layout::Batch, Layout::Message] {
        let objects = archive::pack(layout, &messages);
        assert_each_packed_once(&objects, valid.keys());
        for (location, bytes, message_id) in locations(&objects) {
            assert_found(&valid[&message_id], location, bytes);
            assert_split_completely(&valid[&message_id], location);
        }
    }

    let entries: Vec<_> =
        invalid.iter().map(|(message_id, (r, reason))| (*message_id, r, reason)).collect();
    let objects = archive::pack_quarantine(&entries);
    assert_each_packed_once(&objects, invalid.keys());
    for (location, bytes, message_id) in locations(&objects) {
        let found = archive::find_quarantined(bytes, location, message_id);
        assert_eq!(found.ok().as_ref(), Some(&invalid[&message_id].0.payload));
    }
}

fn received(record: &[u8], received_at_s: i64) -> ReceivedMessage {
    let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
    let (topic, payload) = record.split_at(end);
    ReceivedMessage {
        topic: String::from_utf8_lossy(topic).into_owned(),
        payload: payload.get(1..).unwrap_or_default().to_vec().into(),
        received_at: Timestamp::EPOCH.plus_seconds(received_at_s),
    }
}

fn assert_valid(message: &Message) {
    let topic = message::parse_topic(&message.received.topic);
    assert_eq!(topic, Ok((message.device_id.clone(), message.category)));
    assert_eq!(
        message::parse(&message.received).as_ref(),
        Ok(message),
        "the parser is not deterministic"
    );
    let latest = message.received.received_at.plus_seconds(MAX_AHEAD_S);
    assert!(message.ts <= latest);
    if let Body::Telemetry(measurements) = &message.body {
        assert!(measurements.len() <= MAX_MEASUREMENTS);
        assert!(measurements.iter().all(|m| m.value.is_finite() && m.time <= latest));
        let points: BTreeSet<_> =
            measurements.iter().map(|m| (&m.metric, m.time, m.sample_index)).collect();
        assert_eq!(points.len(), measurements.len(), "two samples have the same identity");
    }
}

fn assert_each_packed_once<'a>(
    objects: &[ArchiveObject],
    message_ids: impl Iterator<Item = &'a MessageId>,
) {
    let mut held: Vec<_> =
        objects.iter().flat_map(|o| &o.entries).map(|(message_id, _)| *message_id).collect();
    held.sort_unstable();
    assert!(held.iter().eq(message_ids));
    let keys: BTreeSet<_> = objects.iter().map(|object| &object.key).collect();
    assert_eq!(keys.len(), objects.len(), "two objects have the same key");
}

/// The location of each message and the bytes that a reader fetches from it.
fn locations(objects: &[ArchiveObject]) -> impl Iterator<Item = (&Location, &[u8], MessageId)> {
    objects.iter().flat_map(|object| {
        object.entries.iter().map(|(message_id, location)| {
            assert_eq!(location.object, object.key);
            let bytes = match location.member {
                None => &object.body[..],
                Some((offset, length)) => &object.body[offset as usize..][..length as usize],
            };
            (location, bytes, *message_id)
        })
    })
}

fn assert_found(message: &Message, location: &Location, bytes: &[u8]) {
    #[derive(Deserialize)]
    struct Line {
        device_id: String,
        topic: String,
        received_at: Timestamp,
        payload: Box<RawValue>,
    }
    let line = match archive::find_line(bytes, location, message.message_id) {
        Ok(line) => line,
        Err(error) => panic!("{error}: {location:?}"),
    };
    let line: Line = match serde_json::from_slice(&line) {
        Ok(line) => line,
        Err(error) => panic!("{error}: {}", line.escape_ascii()),
    };
    assert_eq!(line.device_id, message.device_id.as_str());
    let again = message::parse(&ReceivedMessage {
        topic: line.topic,
        payload: line.payload.get().to_owned().into(),
        received_at: line.received_at,
    });
    // The message id covers the received bytes; only whitespace around and between JSON tokens may
    // differ.
    let again = again.map(|again| Message {
        message_id: message.message_id,
        received: message.received.clone(),
        ..again
    });
    assert_eq!(again.as_ref(), Ok(message), "the archived message differs");
    if location.member.is_none() {
        let name = location.object.strip_prefix(&format!("{}/", message.device_id));
        let name = name.and_then(archive::parse_file_name);
        assert_eq!(name, Some((message.category, message.ts, message.message_id)));
    }
}

fn assert_split_completely(message: &Message, location: &Location) {
    let segments = segments::split(message, location.clone(), None, |_| true);
    assert!(
        segments[0].index_entry.is_some()
            && segments[1..].iter().all(|segment| segment.index_entry.is_none())
    );
    for segment in &segments {
        let interval = segment.ts.floor(SEGMENT_SECONDS);
        assert!(segment.samples.iter().all(|s| s.time.floor(SEGMENT_SECONDS) == interval));
    }
    let intervals: BTreeSet<_> =
        segments.iter().map(|segment| segment.ts.floor(SEGMENT_SECONDS)).collect();
    assert_eq!(intervals.len(), segments.len(), "two segments have the same interval");

    type Point<'a> = (&'a MetricName, Timestamp, u16, u64, &'a Option<String>);
    let samples = segments.iter().flat_map(|segment| &segment.samples);
    let mut split: Vec<Point<'_>> =
        samples.map(|s| (&s.metric, s.time, s.sample_index, s.value.to_bits(), &s.unit)).collect();
    let mut sent: Vec<Point<'_>> = match &message.body {
        Body::Telemetry(measurements) => measurements
            .iter()
            .map(|m| (&m.metric, m.time, m.sample_index, m.value.to_bits(), &m.unit))
            .collect(),
        _ => Vec::new(),
    };
    split.sort_unstable();
    sent.sort_unstable();
    assert_eq!(split, sent);

    // A repeated split with another filter replaces every segment of the first.
    let empty = segments::split(message, location.clone(), None, |_| false);
    assert!(empty.iter().map(|segment| segment.ts).eq(segments.iter().map(|segment| segment.ts)));
    assert!(empty.iter().all(|segment| segment.samples.is_empty()));
}
