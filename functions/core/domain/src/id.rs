//! Identifiers: device ids, certificate ids, message ids, ids of events, and index shards.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::time::Timestamp;

/// Number of shards of an index over the fleet (docs/adr/0012).
pub const SHARDS: u8 = 16;

/// Id of a device: 1 to 128 of `A-Z a-z 0-9 _ : -`, the characters of an IoT Core thing name.
///
/// `#` is not allowed, so keys of the platform that begin with `#` do not collide with device ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

/// The text is not a valid [`DeviceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 of A-Z a-z 0-9 _ : -")]
pub struct InvalidDeviceId;

impl DeviceId {
    /// Parses an id.
    ///
    /// # Errors
    ///
    /// The length or a character is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidDeviceId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-');
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDeviceId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shard of the device in an index over the fleet.
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

/// Id of an AWS IoT certificate: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateId(String);

impl TryFrom<String> for CertificateId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(Self(text)),
            false => Err("a certificate id must have 64 hexadecimal digits"),
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

/// One of the [`SHARDS`] shards of an index over the fleet; as text, two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The shard of a key, derived from its hash.
    pub fn of(name: &[u8]) -> Self {
        Self(Sha256::digest(name)[0] % SHARDS)
    }

    /// Every shard.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

impl Shard {
    /// The offset of this shard when `whole` is divided evenly among the shards. Spreads work that
    /// is due at the same time for every device.
    pub fn stagger(self, whole: i64) -> i64 {
        whole * i64::from(self.0) / i64::from(SHARDS)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// Id of a message: 128 bits of SHA-256 over topic and payload (docs/adr/0002).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// The id of a message. The separator NUL cannot occur in an MQTT topic.
    pub fn of(topic: &str, payload: &[u8]) -> Self {
        Self::digest(&[topic.as_bytes(), b"\0", payload])
    }

    /// The id of a message without a device time. The receipt time is part of it, so equal messages
    /// that were received at different times are different messages.
    pub fn of_untimed(topic: &str, payload: &[u8], received_at: Timestamp) -> Self {
        Self::digest(&[topic.as_bytes(), b"\0", payload, b"\0", received_at.key().as_bytes()])
    }

    fn digest(parts: &[&[u8]]) -> Self {
        Self(sha256_128(parts))
    }

    /// Parses 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The 16 bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<String> for MessageId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a message id must have 32 lower-case hexadecimal digits")
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

/// An id that sorts by `at` and is derived from its cause, so that a repeated decision yields the
/// same event: a UUID of version 8 (RFC 9562, section 5.8) with the layout of version 7.
pub fn event_id(at: Timestamp, kind: &str, subject: &str) -> Uuid {
    let at_key = at.key();
    let mut bytes =
        sha256_128(&[kind.as_bytes(), b"\0", subject.as_bytes(), b"\0", at_key.as_bytes()]);
    let millis = u64::try_from(at.as_millis()).unwrap_or(0).to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    Uuid::new_v8(bytes)
}

/// A random id that sorts by `at`, for requests of a client.
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
    fn device_id_has_the_alphabet_and_length_of_a_thing_name() {
        for good in ["a", "dc-meter-001", "urn:x:Y_9", &"z".repeat(128)] {
            assert!(DeviceId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "#", "a+b", "é", "a\0", "a.b", &"z".repeat(129)] {
            assert_eq!(DeviceId::parse(bad), Err(InvalidDeviceId), "{bad}");
        }
    }

    #[test]
    fn message_id_separates_topic_and_payload() {
        assert_ne!(MessageId::of("iot/a/hello", b"x"), MessageId::of("iot/a/hell", b"ox"));
        assert_eq!(
            MessageId::of("t", b"p"),
            MessageId::parse(&MessageId::of("t", b"p").to_string()).unwrap()
        );
    }

    #[test]
    fn event_ids_sort_by_time_and_are_equal_for_the_same_cause() {
        let (t1, t2) =
            (Timestamp::from_millis(1_000).unwrap(), Timestamp::from_millis(2_000).unwrap());
        assert_eq!(event_id(t1, "k", "x"), event_id(t1, "k", "x"));
        assert_ne!(event_id(t1, "k", "x"), event_id(t1, "k", "y"));
        assert!(event_id(t1, "k", "x").to_string() < event_id(t2, "k", "a").to_string());
        assert!(new_id(t1).to_string() < new_id(t2).to_string());
    }
}
