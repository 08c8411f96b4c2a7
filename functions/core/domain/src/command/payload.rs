//! The payload of a command (docs/protocol.md, "Commands").

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::Command;

/// The payload of a command, signed if the device has a key. It depends only on stored values, so
/// each publish of a command sends the same bytes.
pub fn payload(command: &Command, key: Option<&str>) -> Bytes {
    let mut document = json!({
        "v": 2,
        "cmd_id": command.cmd_id,
        "ts": command.created_at,
        "expires_at": command.expires_at,
        "cmd": command.cmd,
        "params": command.params,
    });
    if let Some(key) = key {
        document["sig"] = Value::from(signature(key, &document));
    }
    Bytes::from(document.to_string())
}

/// HMAC-SHA256 in lower-case hexadecimal over the canonical form (RFC 8785) of a command without
/// `sig`.
pub fn signature(key: &str, document: &Value) -> String {
    let canonical = serde_json_canonicalizer::to_vec(document).unwrap_or_default();
    // HMAC accepts keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(&canonical);
    hex::encode(mac.finalize().into_bytes())
}
