//! What things are called: device ids, message ids, ids of events.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::time::Timestamp;

/// How many partitions an index over the whole fleet is spread over (docs/adr/0012).
pub const SHARDS: u8 = 16;

/// A device's name: 1 to 128 of `A-Z a-z 0-9 _ : -`, what IoT Core allows in a thing name.
///
/// `#` is not in the alphabet, so keys that begin with it are free for the platform's own items.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

/// Why a text is no [`DeviceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 of A-Z a-z 0-9 _ : -")]
pub struct InvalidDeviceId;

impl DeviceId {
    /// Checks the alphabet and the length.
    pub fn parse(text: &str) -> Result<Self, InvalidDeviceId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-');
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDeviceId)
        }
    }

    /// The name as it stands in topics, paths and keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition of this device in an index over the fleet.
    pub fn shard(&self) -> Shard {
        Shard::of(self.0.as_bytes())
    }
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: String) -> Result<Self, InvalidDeviceId> {
        Self::parse(&text)
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate's name in AWS IoT: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateId(String);

impl TryFrom<String> for CertificateId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(Self(text)),
            false => Err("a certificate id is 64 hex digits"),
        }
    }
}

impl From<CertificateId> for String {
    fn from(id: CertificateId) -> Self {
        id.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the [`SHARDS`] partitions of an index over the fleet; as text two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The partition of a thing, by a hash of its name.
    pub fn of(name: &[u8]) -> Self {
        Self(Sha256::digest(name)[0] % SHARDS)
    }

    /// Every partition.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

impl Shard {
    /// A share of `whole`, from 0 on, so that what happens to every device at a time does not happen to
    /// all of them at once.
    pub fn stagger(self, whole: i64) -> i64 {
        whole * i64::from(self.0) / i64::from(SHARDS)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// A message's identity: 128 bits of SHA-256 over what was received (docs/adr/0002).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// The identity of these bytes on this topic. MQTT forbids NUL in a topic, so it separates.
    pub fn of(topic: &str, payload: &[u8]) -> Self {
        Self::digest(&[topic.as_bytes(), b"\0", payload])
    }

    /// The identity of a reading that carries no time of its own: two equal ones are two messages,
    /// and what tells them apart is when they were received.
    pub fn of_untimed(topic: &str, payload: &[u8], received_at: Timestamp) -> Self {
        Self::digest(&[topic.as_bytes(), b"\0", payload, b"\0", received_at.key().as_bytes()])
    }

    fn digest(parts: &[&[u8]]) -> Self {
        Self(sha256_128(parts))
    }

    /// Reads 32 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The raw 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<String> for MessageId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a message id is 32 lower-case hex digits")
    }
}

impl From<MessageId> for String {
    fn from(message_id: MessageId) -> Self {
        hex::encode(message_id.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id that sorts by `at` and is derived from what caused it, so that deciding twice is one event:
/// a UUID of version 8 (RFC 9562, section 5.8) laid out like version 7.
pub fn event_id(at: Timestamp, kind: &str, subject: &str) -> Uuid {
    let at_key = at.key();
    let mut bytes =
        sha256_128(&[kind.as_bytes(), b"\0", subject.as_bytes(), b"\0", at_key.as_bytes()]);
    let millis = u64::try_from(at.as_millis()).unwrap_or(0).to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    Uuid::new_v8(bytes)
}

/// A new id that sorts by `at` and is random otherwise: for what a person asked for.
pub fn new_id(at: Timestamp) -> Uuid {
    let seconds = u64::try_from(at.as_seconds()).unwrap_or(0);
    let nanos = u32::try_from(at.as_nanos().rem_euclid(1_000_000_000)).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

fn sha256_128(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_is_what_iot_core_allows_as_a_thing_name() {
        for good in ["a", "dc-meter-001", "urn:x:Y_9", &"z".repeat(128)] {
            assert!(DeviceId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "#", "a+b", "é", "a\0", "a.b", &"z".repeat(129)] {
            assert_eq!(DeviceId::parse(bad), Err(InvalidDeviceId), "{bad}");
        }
    }

    #[test]
    fn topic_and_payload_do_not_run_into_each_other() {
        assert_ne!(MessageId::of("iot/a/hello", b"x"), MessageId::of("iot/a/hell", b"ox"));
        assert_eq!(
            MessageId::of("t", b"p"),
            MessageId::parse(&MessageId::of("t", b"p").to_string()).unwrap()
        );
    }

    #[test]
    fn ids_of_events_sort_by_time_and_repeat_for_the_same_cause() {
        let (t1, t2) =
            (Timestamp::from_millis(1_000).unwrap(), Timestamp::from_millis(2_000).unwrap());
        assert_eq!(event_id(t1, "k", "x"), event_id(t1, "k", "x"));
        assert_ne!(event_id(t1, "k", "x"), event_id(t1, "k", "y"));
        assert!(event_id(t1, "k", "x").to_string() < event_id(t2, "k", "a").to_string());
        assert!(new_id(t1).to_string() < new_id(t2).to_string());
    }
}
