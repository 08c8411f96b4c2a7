//! Splitting of a message into the segments that are stored (docs/adr/0006).
//!
//! The result depends only on the message and its archive location, so storing a message again
//! replaces every segment by an equal one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::archive::Location;
use crate::id::{DeviceId, MessageId};
use crate::message::{Body, Category, Message};
use crate::metric::{DevicePoint, Point, Precedence, Sample};
use crate::time::Timestamp;

/// Length, in seconds of device time, of the interval that a segment covers. Intervals are aligned
/// to the epoch, so a reader of a time range needs no more than the segments from the interval of
/// its start to the interval of its end. Divides a day.
pub const SEGMENT_SECONDS: u32 = 300;

/// A part of a message: one item of the table `messages`. A message has one head, which carries the
/// index entry and the envelope time, and one continuation for each other interval of
/// [`SEGMENT_SECONDS`] that contains samples.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageSegment {
    /// The device that published the message.
    pub device_id: DeviceId,
    /// The message.
    pub message_id: MessageId,
    /// Head: the envelope time. Continuation: the start of its interval.
    pub ts: Timestamp,
    /// Head: category and archive location of the message. Continuation: `None`.
    pub index_entry: Option<IndexEntry>,
    /// The envelope time, which decides precedence between messages.
    pub envelope_ts: Timestamp,
    /// The samples whose times are in the interval of `ts`, in no particular order.
    pub samples: Vec<Sample>,
    /// Expiry time in seconds since the epoch.
    pub ttl: Option<i64>,
}

/// Category, size and archive location of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Category of the message.
    pub category: Category,
    /// Receipt time at the broker.
    pub received_at: Timestamp,
    /// Size of the payload in bytes.
    pub size: u64,
    /// Location of the message in the archive.
    pub location: Location,
}

/// Position of a segment among those of its device: by time, then by message, head before
/// continuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentPosition {
    /// See [`MessageSegment::ts`].
    pub ts: Timestamp,
    /// See [`MessageSegment::message_id`].
    pub message_id: MessageId,
    /// Whether the segment is a continuation.
    pub is_continuation: bool,
}

impl MessageSegment {
    /// The position of the segment.
    pub fn position(&self) -> SegmentPosition {
        SegmentPosition {
            ts: self.ts,
            message_id: self.message_id,
            is_continuation: self.index_entry.is_none(),
        }
    }
}

impl MessageSegment {
    /// The points of the samples in the segment.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        let precedence = Precedence { ts: self.envelope_ts, message_id: self.message_id };
        self.samples.iter().map(move |sample| Point::new(sample, precedence))
    }
}

/// Splits a message: the head first, then the continuations in the order of time. A continuation
/// without samples that pass `keep` is included, so that a repeated split with another `keep`
/// replaces every segment of the first.
pub fn split(
    message: &Message,
    location: Location,
    ttl: Option<i64>,
    keep: impl Fn(&Sample) -> bool,
) -> Vec<MessageSegment> {
    let head_interval = message.ts.floor(SEGMENT_SECONDS);
    let mut intervals: BTreeMap<Timestamp, Vec<Sample>> = BTreeMap::new();
    if let Body::Telemetry(measurements) = &message.body {
        for m in measurements {
            let samples = intervals.entry(m.time.floor(SEGMENT_SECONDS)).or_default();
            if keep(m) {
                samples.push(m.clone());
            }
        }
    }
    let in_head = intervals.remove(&head_interval).unwrap_or_default();
    let mut parts =
        vec![MessageSegment { samples: in_head, ..without_samples(message, location, ttl) }];
    parts.extend(intervals.into_iter().map(|(ts, samples)| MessageSegment {
        device_id: message.device_id.clone(),
        message_id: message.message_id,
        ts,
        index_entry: None,
        envelope_ts: message.ts,
        samples,
        ttl,
    }));
    parts
}

/// Positions of the segments of a message.
pub fn positions(message: &Message) -> Vec<SegmentPosition> {
    let nowhere = Location { object: String::new(), member: None };
    split(message, nowhere, None, |_| false).iter().map(MessageSegment::position).collect()
}

/// The points of the samples that pass `keep`.
pub fn points(message: &Message, keep: impl Fn(&Sample) -> bool) -> Vec<DevicePoint> {
    let Body::Telemetry(measurements) = &message.body else { return Vec::new() };
    let point = |sample: &Sample| DevicePoint {
        device_id: message.device_id.clone(),
        point: Point::new(sample, message.precedence()),
    };
    measurements.iter().filter(|m| keep(m)).map(point).collect()
}

/// The head of a message without samples, for systems whose points are in a separate metric store.
pub fn without_samples(message: &Message, location: Location, ttl: Option<i64>) -> MessageSegment {
    let index_entry = IndexEntry {
        category: message.category,
        received_at: message.received.received_at,
        size: message.received.payload.len() as u64,
        location,
    };
    MessageSegment {
        device_id: message.device_id.clone(),
        message_id: message.message_id,
        ts: message.ts,
        index_entry: Some(index_entry),
        envelope_ts: message.ts,
        samples: Vec::new(),
        ttl,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::{ReceivedMessage, parse};

    #[test]
    fn message_is_split_at_interval_borders_without_loss() {
        let payload = json!({"v": 2, "device_id": "m", "seq": 1, "msg_type": "telemetry", "ts": "2026-01-01T00:05:01Z",
            "measurements": [
                {"type": "pf", "val": 1, "ts": "2026-01-01T00:04:59.999Z"},
                {"type": "pf", "val": 2, "ts": "2026-01-01T00:05:00Z"},
                {"type": "pf", "val": 3},
                {"type": "pf", "val": 4, "ts": "1970-01-01T00:00:00Z"}]});
        let message = parse(&ReceivedMessage {
            topic: "iot/m/telemetry".to_owned(),
            payload: payload.to_string().into(),
            received_at: Timestamp::parse("2026-01-01T00:05:02Z").unwrap(),
        })
        .unwrap();
        let location = Location { object: "o".to_owned(), member: None };
        let parts = split(&message, location, None, |_| true);
        let seen: Vec<_> = parts
            .iter()
            .map(|p| {
                (
                    p.ts.to_string(),
                    p.index_entry.is_some(),
                    p.samples.iter().map(|s| s.value).collect(),
                )
            })
            .collect::<Vec<(_, _, Vec<f64>)>>();
        assert_eq!(
            seen,
            [
                ("2026-01-01T00:05:01Z".to_owned(), true, vec![2.0, 3.0]),
                ("1970-01-01T00:00:00Z".to_owned(), false, vec![4.0]),
                ("2026-01-01T00:00:00Z".to_owned(), false, vec![1.0]),
            ]
        );
        for segment in &parts {
            assert!(
                segment
                    .samples
                    .iter()
                    .all(|s| s.time.floor(SEGMENT_SECONDS) == segment.ts.floor(SEGMENT_SECONDS))
            );
        }
    }
}
