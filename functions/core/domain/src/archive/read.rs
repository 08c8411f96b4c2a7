//! Reading of messages from archive objects.

use std::borrow::Cow;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BATCH_SUFFIX, Location, QuarantineLine};
use crate::id::{DeviceId, MessageId};
use crate::message::{Message, ParseError, ReceivedMessage, parse};
use crate::time::Timestamp;

/// Why a message could not be read from its object.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bytes are not a complete gzip member.
    #[error("the archive object is not valid gzip")]
    Gzip(#[from] std::io::Error),
    /// The member is empty after a redaction; see [`super::redaction`].
    #[error("the archive object was redacted")]
    Redacted,
    /// The message is not in the member, or its line is invalid.
    #[error("the archive object does not contain message {0}")]
    Missing(MessageId),
}

/// The NDJSON lines at a location, without line breaks.
///
/// # Errors
///
/// The bytes are not a gzip member.
pub fn lines(bytes: &[u8], location: &Location) -> Result<Vec<Bytes>, UnpackError> {
    let text = match location.member {
        None => bytes.to_vec(),
        Some(_) => {
            let mut text = Vec::new();
            MultiGzDecoder::new(bytes).read_to_end(&mut text)?;
            text
        }
    };
    let text = Bytes::from(text);
    Ok(text
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| text.slice_ref(line))
        .collect())
}

/// The line of a message in the bytes at its location.
///
/// # Errors
///
/// The bytes are not a gzip member, are redacted, or do not contain the message.
pub fn find_line(
    bytes: &[u8],
    location: &Location,
    message_id: MessageId,
) -> Result<Bytes, UnpackError> {
    #[derive(Deserialize)]
    struct Identity {
        #[serde(rename = "mid")]
        message_id: MessageId,
    }
    let lines = lines(bytes, location)?;
    if lines.is_empty() {
        return Err(UnpackError::Redacted);
    }
    lines
        .into_iter()
        .find(|line| {
            serde_json::from_slice::<Identity>(line)
                .is_ok_and(|found| found.message_id == message_id)
        })
        .ok_or(UnpackError::Missing(message_id))
}

/// The payload of a quarantined message in the bytes at its location.
///
/// # Errors
///
/// The bytes are not a gzip member, are redacted, or do not contain the message.
pub fn find_quarantined(
    bytes: &[u8],
    location: &Location,
    message_id: MessageId,
) -> Result<Bytes, UnpackError> {
    let line = find_line(bytes, location, message_id)?;
    let line: QuarantineLine =
        serde_json::from_slice(&line).map_err(|_| UnpackError::Missing(message_id))?;
    let payload =
        BASE64.decode(line.payload_base64).map_err(|_| UnpackError::Missing(message_id))?;
    Ok(payload.into())
}

/// A message in an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchivedMessage {
    /// The message as it was ingested, except for line breaks in its payload.
    pub message: Message,
    /// Location of the message.
    pub location: Location,
}

/// The messages of an object.
#[derive(Debug, Default, PartialEq)]
pub struct ObjectContents {
    /// Messages in the order of the object; repeated messages are repeated here.
    pub messages: Vec<ArchivedMessage>,
    /// Number of lines that could not be parsed, and the reason for the first of them.
    pub invalid_lines: Option<(usize, String)>,
}

/// Reads the messages of an object, of one device or of all. Invalid lines, also those that only
/// this version of the parser rejects, are counted and skipped.
///
/// # Errors
///
/// The object is not a sequence of gzip members.
pub fn read_object(
    key: &str,
    object: &[u8],
    device: Option<&DeviceId>,
) -> Result<ObjectContents, UnpackError> {
    let members = if key.ends_with(BATCH_SUFFIX) {
        read_gzip_members(object)?
    } else {
        vec![(None, object.to_vec())]
    };
    let mut contents = ObjectContents::default();
    for (member, text) in members {
        let location = Location { object: key.to_owned(), member };
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        for line in lines.filter(|line| device.is_none_or(|id| belongs_to(id, line))) {
            match parse_line(line) {
                Ok(message) => {
                    contents.messages.push(ArchivedMessage { message, location: location.clone() });
                }
                Err(reason) => contents.invalid_lines.get_or_insert((0, reason)).0 += 1,
            }
        }
    }
    Ok(contents)
}

/// Whether a line belongs to the device, without parsing the message. A line without a device id
/// belongs to every device, so that it is counted as invalid.
fn belongs_to(id: &DeviceId, line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct LineDevice<'a> {
        #[serde(borrow)]
        device_id: Cow<'a, str>,
    }
    serde_json::from_slice::<LineDevice<'_>>(line)
        .map_or(true, |line| line.device_id == id.as_str())
}

/// Offset and length of a gzip member, and its decompressed content.
type GzipMember = (Option<(u64, u64)>, Vec<u8>);

fn read_gzip_members(object: &[u8]) -> Result<Vec<GzipMember>, UnpackError> {
    let mut members = Vec::new();
    let mut rest = object;
    while !rest.is_empty() {
        let offset = object.len() - rest.len();
        let mut decoder = GzDecoder::new(rest);
        let mut text = Vec::new();
        decoder.read_to_end(&mut text)?;
        let after = decoder.into_inner();
        let place = (offset as u64, (rest.len() - after.len()) as u64);
        members.push((Some(place), text));
        rest = after;
    }
    Ok(members)
}

/// Parses a line. The message id is taken from the line: if the payload had line breaks, its bytes
/// have changed since the id was computed.
fn parse_line(line: &[u8]) -> Result<Message, String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "mid")]
        message_id: MessageId,
        topic: String,
        received_at: Timestamp,
        payload: Box<RawValue>,
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let payload = String::from(Box::<str>::from(line.payload)).into();
    let received = ReceivedMessage { topic: line.topic, payload, received_at: line.received_at };
    let message = parse(&received).map_err(|reason: ParseError| reason.to_string())?;
    Ok(Message { message_id: line.message_id, ..message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Layout, pack, redaction};

    fn message(device: &str, payload: &str) -> Message {
        parse(&ReceivedMessage {
            topic: format!("iot/{device}/telemetry"),
            payload: payload.to_owned().into(),
            received_at: Timestamp::parse("2026-03-01T12:00:00.123Z").unwrap(),
        })
        .unwrap()
    }

    #[test]
    fn packed_messages_are_read_with_location_and_id() {
        let messages = [
            message("a", "{\"temperature\": 1.50}"),
            message("b", "{\r\n \"temperature\": 2}\n"),
            message("b", "{\"temperature\": 3}"),
        ];
        let all: Vec<&Message> = messages.iter().collect();
        for layout in [Layout::Batch, Layout::Message] {
            let mut found = 0;
            for object in pack(layout, &all) {
                let contents = read_object(&object.key, &object.body, None).unwrap();
                assert_eq!(contents.invalid_lines, None);
                let b = DeviceId::parse("b").unwrap();
                let of_b = super::read_object(&object.key, &object.body, Some(&b)).unwrap();
                let is_of_b = |m: &&ArchivedMessage| m.message.device_id == b;
                assert!(contents.messages.iter().filter(is_of_b).eq(&of_b.messages));
                for ArchivedMessage { message, location } in contents.messages {
                    let was = messages.iter().find(|m| m.message_id == message.message_id).unwrap();
                    assert_eq!((&message.ts, &message.body), (&was.ts, &was.body));
                    assert_eq!(message.received.received_at, was.received.received_at);
                    assert!(object.entries.contains(&(message.message_id, location)));
                    found += 1;
                }
            }
            assert_eq!(found, messages.len(), "{layout:?}");
        }
    }

    #[test]
    fn redacted_message_is_absent_and_others_keep_their_location() {
        let (a, b) = (message("a", "{\"temperature\": 1}"), message("b", "{\"temperature\": 2}"));
        let object = pack(Layout::Batch, &[&a, &b]).remove(0);
        let place =
            |message_id| object.entries.iter().find(|(m, _)| *m == message_id).unwrap().1.clone();
        let without =
            redaction::redact_member(&object.body, place(a.message_id).member.unwrap()).unwrap();
        let left = read_object(&object.key, &without, None).unwrap().messages;
        let left: Vec<_> = left.iter().map(|m| (m.message.message_id, &m.location)).collect();
        assert_eq!(left, [(b.message_id, &place(b.message_id))]);
    }

    #[test]
    fn invalid_line_is_skipped_and_invalid_object_is_an_error() {
        let m = message("a", "{\"temperature\": 1}");
        let object = pack(Layout::Message, &[&m]).remove(0);
        let text = [&b"{}\n"[..], &object.body, b"{\n"].concat();
        let contents_of = |text: &[u8]| read_object("a/telemetry/x.json", text, None).unwrap();
        let read = contents_of(&text);
        assert_eq!(read.messages.len(), 1);
        let (lines, reason) = read.invalid_lines.unwrap();
        assert!(lines == 2 && reason.contains("mid"), "{reason}");
        assert!(read_object("archive/dt=x/hh=00/y.ndjson.gz", &text, None).is_err());
    }
}
