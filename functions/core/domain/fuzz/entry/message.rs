//! Messages. What can be read is archived in either layout, found there, readable again from there, and
//! cut into parts that hold every sample once. What cannot be read comes back from quarantine byte for
//! byte.
//!
//! An input is a batch: records separated by RS (0x1E, which no JSON text holds), each a topic, a line
//! break, and the payload.

use std::collections::{BTreeMap, BTreeSet};

use meter_domain::archive::{self, Layout, Location, Object};
use meter_domain::id::Mid;
use meter_domain::message::{self, Body, MAX_AHEAD_S, MAX_MEASUREMENTS, Message, Received};
use meter_domain::metric::MetricName;
use meter_domain::parts;
use meter_domain::parts::PART_SECONDS;
use meter_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A batch long enough for several devices, hours and repeats; more would only be slower.
const MAX_RECORDS: usize = 16;
/// 2026-03-01T12:00:00Z.
const FIRST_RECEIVED_S: i64 = 1_772_366_400;
/// A batch spans hours, so that it fills more than one object.
const BETWEEN_S: i64 = 1_500;

pub(crate) fn run(input: &[u8]) {
    let mut readable = BTreeMap::new();
    let mut unreadable = BTreeMap::new();
    let records = input.split(|byte| *byte == 0x1E).take(MAX_RECORDS);
    for (index, record) in (0_i64..).zip(records) {
        let received = received(record, FIRST_RECEIVED_S + index * BETWEEN_S);
        match message::parse(&received) {
            Ok(message) => {
                is_as_the_protocol_says(&message);
                readable.entry(message.mid).or_insert(message);
            }
            Err(reason) => {
                assert!(!reason.to_string().is_empty());
                let mid = Mid::of(&received.topic, &received.payload);
                unreadable.entry(mid).or_insert((received, reason));
            }
        }
    }

    let messages: Vec<_> = readable.values().collect();
    for layout in [Layout::Batch, Layout::Message] {
        let objects = archive::pack(layout, &messages);
        holds_each_once(&objects, readable.keys());
        for (location, bytes, mid) in places(&objects) {
            is_found(&readable[&mid], location, bytes);
            is_cut_whole(&readable[&mid], location);
        }
    }

    let entries: Vec<_> = unreadable.iter().map(|(mid, (r, reason))| (*mid, r, reason)).collect();
    let objects = archive::pack_quarantine(&entries);
    holds_each_once(&objects, unreadable.keys());
    for (location, bytes, mid) in places(&objects) {
        let found = archive::find_quarantined(bytes, location, mid);
        assert_eq!(found.ok().as_ref(), Some(&unreadable[&mid].0.payload));
    }
}

fn received(record: &[u8], received_at_s: i64) -> Received {
    let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
    let (topic, payload) = record.split_at(end);
    Received {
        topic: String::from_utf8_lossy(topic).into_owned(),
        payload: payload.get(1..).unwrap_or_default().to_vec().into(),
        received_at: Timestamp::EPOCH.plus_seconds(received_at_s),
    }
}

fn is_as_the_protocol_says(message: &Message) {
    let topic = message::parse_topic(&message.received.topic);
    assert_eq!(topic, Ok((message.device_id.clone(), message.category)));
    assert_eq!(message::parse(&message.received).as_ref(), Ok(message), "another time it differs");
    let latest = message.received.received_at.plus_seconds(MAX_AHEAD_S);
    assert!(message.ts <= latest);
    if let Body::Telemetry(measurements) = &message.body {
        assert!(measurements.len() <= MAX_MEASUREMENTS);
        assert!(measurements.iter().all(|m| m.value.is_finite() && m.ts <= latest));
        let points: BTreeSet<_> =
            measurements.iter().map(|m| (&m.metric, m.ts, m.ordinal)).collect();
        assert_eq!(points.len(), measurements.len(), "two samples claim one point");
    }
}

fn holds_each_once<'a>(objects: &[Object], mids: impl Iterator<Item = &'a Mid>) {
    let mut held: Vec<_> = objects.iter().flat_map(|o| &o.entries).map(|(mid, _)| *mid).collect();
    held.sort_unstable();
    assert!(held.iter().eq(mids));
    let keys: BTreeSet<_> = objects.iter().map(|object| &object.key).collect();
    assert_eq!(keys.len(), objects.len(), "an object overwrites another");
}

/// Each message's place, and the bytes that a reader fetches from there.
fn places(objects: &[Object]) -> impl Iterator<Item = (&Location, &[u8], Mid)> {
    objects.iter().flat_map(|object| {
        object.entries.iter().map(|(mid, location)| {
            assert_eq!(location.object, object.key);
            let bytes = match location.member {
                None => &object.body[..],
                Some((offset, length)) => &object.body[offset as usize..][..length as usize],
            };
            (location, bytes, *mid)
        })
    })
}

fn is_found(message: &Message, location: &Location, bytes: &[u8]) {
    #[derive(Deserialize)]
    struct Line {
        device_id: String,
        topic: String,
        received_at: Timestamp,
        payload: Box<RawValue>,
    }
    let line = match archive::find_line(bytes, location, message.mid) {
        Ok(line) => line,
        Err(error) => panic!("{error}: {location:?}"),
    };
    let line: Line = match serde_json::from_slice(&line) {
        Ok(line) => line,
        Err(error) => panic!("{error}: {}", line.escape_ascii()),
    };
    assert_eq!(line.device_id, message.device_id.as_str());
    let again = message::parse(&Received {
        topic: line.topic,
        payload: line.payload.get().to_owned().into(),
        received_at: line.received_at,
    });
    // The identity is of the bytes received; only blanks around and inside the JSON may differ.
    let again = again.map(|again| Message {
        mid: message.mid,
        received: message.received.clone(),
        ..again
    });
    assert_eq!(again.as_ref(), Ok(message), "the archive says something else");
    if location.member.is_none() {
        let name = location.object.strip_prefix(&format!("{}/", message.device_id));
        let name = name.and_then(archive::parse_file_name);
        assert_eq!(name, Some((message.category, message.ts, message.mid)));
    }
}

fn is_cut_whole(message: &Message, location: &Location) {
    let parts = parts::cut(message, location.clone(), None, |_| true);
    assert!(parts[0].head.is_some() && parts[1..].iter().all(|part| part.head.is_none()));
    for part in &parts {
        let interval = part.ts.floor(PART_SECONDS);
        assert!(part.samples.iter().all(|s| s.time.floor(PART_SECONDS) == interval));
    }
    let intervals: BTreeSet<_> = parts.iter().map(|part| part.ts.floor(PART_SECONDS)).collect();
    assert_eq!(intervals.len(), parts.len(), "a part overwrites another");

    type Point<'a> = (&'a MetricName, Timestamp, u16, u64, &'a Option<String>);
    let samples = parts.iter().flat_map(|part| &part.samples);
    let mut cut: Vec<Point<'_>> =
        samples.map(|s| (&s.metric, s.time, s.ordinal, s.value.to_bits(), &s.unit)).collect();
    let mut said: Vec<Point<'_>> = match &message.body {
        Body::Telemetry(measurements) => measurements
            .iter()
            .map(|m| (&m.metric, m.ts, m.ordinal, m.value.to_bits(), &m.unit))
            .collect(),
        _ => Vec::new(),
    };
    cut.sort_unstable();
    said.sort_unstable();
    assert_eq!(cut, said);

    // What a decision made again leaves out replaces what the first one stored.
    let emptied = parts::cut(message, location.clone(), None, |_| false);
    assert!(emptied.iter().map(|part| part.ts).eq(parts.iter().map(|part| part.ts)));
    assert!(emptied.iter().all(|part| part.samples.is_empty()));
}
