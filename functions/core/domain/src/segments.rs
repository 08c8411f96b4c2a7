//! Cutting a message into the parts that are stored of it. A function of the message and of where its
//! bytes are, and of nothing else, so that storing it twice is storing it once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::archive::Location;
use crate::id::{DeviceId, MessageId};
use crate::message::{Body, Category, Message};
use crate::metric::{DevicePoint, Point, PointKey, Precedence, Sample};
use crate::time::Timestamp;

/// Seconds of device time that one part of a message covers at most. Parts are cut at multiples of it
/// since the epoch, so that a range of points is found by reading from the multiple before its start
/// to the one after its stop, whatever the messages look like. It divides a day.
pub const SEGMENT_SECONDS: u32 = 300;

/// A part of a message: an item of the table `messages`. A message is one head, whose time is the
/// envelope's, and a tail for each other [`SEGMENT_SECONDS`] interval that it has samples in.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageSegment {
    /// Whose.
    pub device_id: DeviceId,
    /// Of which message.
    pub message_id: MessageId,
    /// IndexEntry: the envelope's time. Tail: the start of its interval.
    pub ts: Timestamp,
    /// For the head: what the message is and where its bytes are.
    pub index_entry: Option<IndexEntry>,
    /// The envelope's time, which decides between two messages that claim a point.
    pub envelope_ts: Timestamp,
    /// The samples whose times lie in the interval of `ts`. Their order means nothing: metric, time and
    /// sample_index say which point each is.
    pub samples: Vec<Sample>,
    /// When the store may forget it, in seconds since the epoch.
    pub ttl: Option<i64>,
}

/// What a message is, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// What it is about.
    pub category: Category,
    /// When the broker had it.
    pub received_at: Timestamp,
    /// Its payload's length in bytes.
    pub size: u64,
    /// Where it is in the archive.
    pub location: Location,
}

/// Where a part stands among those of its device: by time, then by message, head before tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentPosition {
    /// See [`MessageSegment::ts`].
    pub ts: Timestamp,
    /// See [`MessageSegment::message_id`].
    pub message_id: MessageId,
    /// Whether it is a tail.
    pub is_continuation: bool,
}

impl MessageSegment {
    /// Where it stands.
    pub fn position(&self) -> SegmentPosition {
        SegmentPosition {
            ts: self.ts,
            message_id: self.message_id,
            is_continuation: self.index_entry.is_none(),
        }
    }
}

impl Point {
    /// The point that a sample of a part is.
    pub fn of(segment: &MessageSegment, sample: &Sample) -> Self {
        Self {
            key: PointKey {
                time: sample.time,
                metric: sample.metric.clone(),
                sample_index: sample.sample_index,
            },
            value: sample.value,
            unit: sample.unit.clone(),
            precedence: Precedence { ts: segment.envelope_ts, message_id: segment.message_id },
        }
    }
}

/// The parts of a message: its head first, then a tail for each other interval with samples in it, also
/// where `keep` leaves none of them, so that a decision made again replaces the first one entirely.
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

/// Where the parts of a message stand.
pub fn positions(message: &Message) -> Vec<SegmentPosition> {
    let nowhere = Location { object: String::new(), member: None };
    split(message, nowhere, None, |_| false).iter().map(MessageSegment::position).collect()
}

/// The points of a message that `keep` lets pass.
pub fn points(message: &Message, keep: impl Fn(&Sample) -> bool) -> Vec<DevicePoint> {
    let Body::Telemetry(measurements) = &message.body else { return Vec::new() };
    let point = |m: &Sample| DevicePoint {
        device_id: message.device_id.clone(),
        point: Point {
            key: PointKey { time: m.time, metric: m.metric.clone(), sample_index: m.sample_index },
            value: m.value,
            unit: m.unit.clone(),
            precedence: Precedence { ts: message.ts, message_id: message.message_id },
        },
    };
    measurements.iter().filter(|m| keep(m)).map(point).collect()
}

/// The head of a message alone, without samples: all that is stored of it here when the measurements are in
/// a store of their own.
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
    fn a_message_is_cut_where_the_clock_says_and_no_sample_is_lost() {
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
