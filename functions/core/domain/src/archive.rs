//! Layout of the archive: content of the objects and location of the messages (docs/adr/0005).
//!
//! In [`Layout::Batch`] an object contains the messages of a batch that were received in one hour,
//! as NDJSON in gzip members, one member for each device. Concatenated members are a valid gzip
//! file (RFC 1952, section 2.2), so standard tools read the whole object, and a reader of one
//! message fetches one member. The key is a digest of the bytes: a redelivered batch writes the
//! same object, and no object ever changes.

mod read;
pub mod redaction;

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

pub use self::read::{
    ArchivedMessage, ObjectContents, UnpackError, find_line, find_quarantined, lines, read_object,
};
use crate::id::{DeviceId, MessageId};
use crate::message::{Category, Message, ParseError, ReceivedMessage};
use crate::time::Timestamp;

/// Location of a message in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Key of the object.
    pub object: String,
    /// Offset and length, in bytes, of the gzip member that contains the message. `None`: the
    /// object contains only this message, uncompressed.
    pub member: Option<(u64, u64)>,
}

/// Arrangement of messages in objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// One object for each batch and hour.
    #[default]
    Batch,
    /// One uncompressed object for each message, which can be browsed in the bucket and costs 5 USD
    /// in requests per million messages.
    Message,
}

/// An object to write and the messages in it.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveObject {
    /// Key of the object.
    pub key: String,
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub body: Bytes,
    /// The messages in the object and their locations.
    pub entries: Vec<(MessageId, Location)>,
}

/// Name of the object of a message below its device: `{category}/{ts}-{message_id}.json`.
pub fn file_name(category: Category, ts: Timestamp, message_id: MessageId) -> String {
    format!("{category}/{}-{message_id}.json", ts.file_stem())
}

/// Prefix of the keys of quarantine objects.
pub const QUARANTINE_PREFIX: &str = "quarantine/dt=";

/// Suffix of the keys of objects that consist of gzip members.
const BATCH_SUFFIX: &str = ".ndjson.gz";

/// Prefix of the keys of [`Layout::Batch`], followed by the day and the hour of receipt.
pub const BATCH_PREFIX: &str = "archive/dt=";

/// Prefix of the keys of the objects with messages that were received in the hour of `at`.
pub fn batch_prefix_of_hour(at: Timestamp) -> String {
    format!("{BATCH_PREFIX}{}/", hour_path(at))
}

/// Hour of receipt of a batch object, parsed from its key.
pub fn batch_hour(key: &str) -> Option<Timestamp> {
    let (day, rest) = key.strip_prefix(BATCH_PREFIX)?.split_once("/hh=")?;
    let (hour, _) = rest.split_once('/')?;
    Timestamp::parse(&format!("{day}T{hour}:00:00Z")).ok()
}

fn hour_path(at: Timestamp) -> String {
    format!("{}/hh={:02}", at.day(), at.hour())
}

/// Parses the result of [`file_name`].
pub fn parse_file_name(name: &str) -> Option<(Category, Timestamp, MessageId)> {
    let (category, file) = name.split_once('/')?;
    let (stem, message_id) = file.strip_suffix(".json")?.split_once('-')?;
    Some((
        Category::parse(category)?,
        Timestamp::from_file_stem(stem).ok()?,
        MessageId::parse(message_id)?,
    ))
}

/// A line of an archive object.
#[derive(Serialize)]
struct ArchiveLine<'a> {
    #[serde(rename = "mid")]
    message_id: MessageId,
    device_id: &'a DeviceId,
    category: Category,
    topic: &'a str,
    received_at: Timestamp,
    payload: Box<RawValue>,
}

/// A line of a quarantine object. The payload can be any bytes.
#[derive(Serialize, Deserialize)]
struct QuarantineLine {
    #[serde(rename = "mid")]
    message_id: MessageId,
    topic: String,
    received_at: Timestamp,
    reason: String,
    payload_base64: String,
}

/// Packs messages into objects. Each message id must occur once.
pub fn pack(layout: Layout, messages: &[&Message]) -> Vec<ArchiveObject> {
    match layout {
        Layout::Message => messages.iter().map(|message| plain_object(message)).collect(),
        Layout::Batch => {
            let items = messages.iter().map(|m| PackItem {
                message_id: m.message_id,
                received_at: m.received.received_at,
                group: m.device_id.as_str(),
                line: line(m),
            });
            pack_batches(BATCH_PREFIX, items)
        }
    }
}

/// Packs messages that failed validation, always in batches.
pub fn pack_quarantine(
    invalid: &[(MessageId, &ReceivedMessage, &ParseError)],
) -> Vec<ArchiveObject> {
    let items = invalid.iter().map(|(message_id, received, reason)| PackItem {
        message_id: *message_id,
        received_at: received.received_at,
        group: "",
        line: json_line(&QuarantineLine {
            message_id: *message_id,
            topic: received.topic.clone(),
            received_at: received.received_at,
            reason: reason.to_string(),
            payload_base64: BASE64.encode(&received.payload),
        }),
    });
    pack_batches(QUARANTINE_PREFIX, items)
}

struct PackItem<'a> {
    message_id: MessageId,
    received_at: Timestamp,
    group: &'a str,
    line: Vec<u8>,
}

fn pack_batches<'a>(prefix: &str, items: impl Iterator<Item = PackItem<'a>>) -> Vec<ArchiveObject> {
    let mut hours: BTreeMap<String, Vec<PackItem<'a>>> = BTreeMap::new();
    for item in items {
        hours.entry(hour_path(item.received_at)).or_default().push(item);
    }
    hours
        .into_iter()
        .map(|(hour, mut items)| {
            // The order is a function of the content: by device, then by message id.
            items.sort_by_key(|item| (item.group, item.message_id));
            let mut body = Vec::new();
            let mut members = Vec::with_capacity(items.len());
            for member in items.chunk_by(|a, b| a.group == b.group) {
                let offset = body.len() as u64;
                gzip_into(&mut body, member.iter().map(|item| item.line.as_slice()));
                let place = (offset, body.len() as u64 - offset);
                members.extend(member.iter().map(|item| (item.message_id, place)));
            }
            // A digest of the bytes, not of the message ids: the same messages with another receipt
            // time, or packed by another version, are other bytes, and an index entry must not
            // point into an object with other offsets.
            let name = hex::encode(&Sha256::digest(&body)[..16]);
            let key = format!("{prefix}{hour}/{name}{BATCH_SUFFIX}");
            let locate = |(message_id, member)| {
                (message_id, Location { object: key.clone(), member: Some(member) })
            };
            let entries = members.into_iter().map(locate).collect();
            ArchiveObject { key, content_type: "application/gzip", body: body.into(), entries }
        })
        .collect()
}

fn gzip_into<'a>(body: &mut Vec<u8>, mut lines: impl Iterator<Item = &'a [u8]>) {
    // The fastest level reduces telemetry to a fifth; the best level takes ten times as long for
    // another tenth. The header contains no time, so equal lines become equal bytes.
    let mut encoder = GzEncoder::new(&mut *body, Compression::fast());
    let written = lines.try_for_each(|line| encoder.write_all(line));
    let written = written.and_then(|()| encoder.finish().map(drop));
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

fn plain_object(message: &Message) -> ArchiveObject {
    let name = file_name(message.category, message.ts, message.message_id);
    let key = format!("{}/{name}", message.device_id);
    let entries = vec![(message.message_id, Location { object: key.clone(), member: None })];
    ArchiveObject { key, content_type: "application/json", body: line(message).into(), entries }
}

fn line(message: &Message) -> Vec<u8> {
    json_line(&ArchiveLine {
        message_id: message.message_id,
        device_id: &message.device_id,
        category: message.category,
        topic: &message.received.topic,
        received_at: message.received.received_at,
        payload: single_line_json(&message.received.payload),
    })
}

fn json_line(value: &impl Serialize) -> Vec<u8> {
    // Serialization fails only for maps with keys that are not strings, which these types do not
    // contain.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The payload with its numbers as they were sent. Line breaks, which JSON allows only between
/// tokens, become spaces, so that the payload stays on one line.
fn single_line_json(payload: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(payload).replace(['\n', '\r'], " ");
    // The payload was parsed as JSON before it became a message.
    RawValue::from_string(text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse;

    fn message(device: &str, value: u32, received_at: &str) -> Message {
        parse(&ReceivedMessage {
            topic: format!("iot/{device}/telemetry"),
            payload: format!("{{\"temperature\":\n {value}.50 }}\r\n").into(),
            received_at: Timestamp::parse(received_at).unwrap(),
        })
        .unwrap()
    }

    #[test]
    fn batch_is_packed_by_hour_and_each_message_is_found_in_its_member() {
        let messages = [
            message("b", 1, "2026-03-01T12:59:59Z"),
            message("a", 2, "2026-03-01T12:00:00Z"),
            message("b", 3, "2026-03-01T12:30:00Z"),
            message("a", 4, "2026-03-01T13:00:00Z"),
        ];
        let objects = pack(Layout::Batch, &messages.iter().collect::<Vec<_>>());
        assert_eq!(objects.len(), 2);
        assert!(objects[0].key.starts_with("archive/dt=2026-03-01/hh=12/"));
        for object in &objects {
            for (message_id, location) in &object.entries {
                let (offset, length) = location.member.unwrap();
                let member = &object.body[offset as usize..(offset + length) as usize];
                let line = find_line(member, location, *message_id).unwrap();
                let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
                let expected = messages.iter().find(|m| m.message_id == *message_id).unwrap();
                assert_eq!(line["device_id"], expected.device_id.as_str());
                assert_eq!(line["received_at"], expected.received.received_at.to_string());
                let payload: serde_json::Value =
                    serde_json::from_slice(&expected.received.payload).unwrap();
                assert_eq!(line["payload"], payload);
            }
        }
        // The whole object is a valid gzip file of NDJSON.
        let whole = Location { object: objects[0].key.clone(), member: Some((0, 0)) };
        assert_eq!(lines(&objects[0].body, &whole).unwrap().len(), 3);
    }

    #[test]
    fn order_of_messages_does_not_change_the_object() {
        let (a, b) =
            (message("a", 1, "2026-03-01T12:00:00Z"), message("b", 2, "2026-03-01T12:00:00Z"));
        assert_eq!(pack(Layout::Batch, &[&a, &b]), pack(Layout::Batch, &[&b, &a]));
    }

    #[test]
    fn redelivery_with_another_receipt_time_has_another_key() {
        // A redelivery of the message with a later receipt time, in its own batch.
        let (first, again) =
            (message("a", 1, "2026-03-01T12:00:00Z"), message("a", 1, "2026-03-01T12:00:00.123Z"));
        let first = pack(Layout::Batch, &[&first]).remove(0);
        let again = pack(Layout::Batch, &[&again]).remove(0);
        assert_ne!(first.body, again.body);
        assert_ne!(first.key, again.key, "an entry for the one would point into the other");
    }

    #[test]
    fn payload_keeps_its_digits_on_one_line() {
        let m = message("a", 1, "2026-03-01T12:00:00Z");
        let object = &pack(Layout::Message, &[&m])[0];
        let stem = "20260301T120000.000000000Z";
        assert_eq!(object.key, format!("a/telemetry/{stem}-{}.json", m.message_id));
        let text = std::str::from_utf8(&object.body).unwrap();
        assert!(text.ends_with("\"payload\":{\"temperature\":  1.50 }}\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
        let name = object.key.strip_prefix("a/").unwrap();
        assert_eq!(parse_file_name(name), Some((Category::Telemetry, m.ts, m.message_id)));
    }

    #[test]
    fn quarantined_payload_is_returned_unchanged() {
        let received = ReceivedMessage {
            topic: "iot/a/telemetry".to_owned(),
            payload: Bytes::from_static(b"\xff\x00\n{"),
            received_at: Timestamp::parse("2026-03-01T12:00:00Z").unwrap(),
        };
        let reason = parse(&received).unwrap_err();
        let message_id = MessageId::of(&received.topic, &received.payload);
        let object = &pack_quarantine(&[(message_id, &received, &reason)])[0];
        assert!(object.key.starts_with("quarantine/dt=2026-03-01/hh=12/"));
        let found = find_quarantined(&object.body, &object.entries[0].1, message_id).unwrap();
        assert_eq!(found, received.payload);
        assert!(find_quarantined(&object.body[..10], &object.entries[0].1, message_id).is_err());
    }
}
