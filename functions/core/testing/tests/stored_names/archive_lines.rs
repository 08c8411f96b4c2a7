//! Keys of archive objects, and their lines.

use meter_domain::archive::{self, Layout, pack, pack_quarantine};
use meter_domain::message::{ParseError, ReceivedMessage};
use serde_json::json;

use crate::examples::{message, message_id, second};

pub(crate) fn lines() -> Vec<String> {
    let message = message("telemetry", json!({"measurements": [{"type": "pf", "val": 1}]}));
    let quarantined =
        ReceivedMessage { topic: "topic".to_owned(), payload: "x".into(), received_at: second(2) };
    let reason = ParseError::UnregisteredDevice;
    let objects = [
        pack(Layout::Message, &[&message]),
        pack(Layout::Batch, &[&message]),
        pack_quarantine(&[(message_id(), &quarantined, &reason)]),
    ];
    let mut lines = Vec::new();
    for object in objects.into_iter().flatten() {
        lines.push(format!("{} ({})", object.key, object.content_type));
        let [(_, location)] = &object.entries[..] else { panic!("one message in an object") };
        let bytes = match location.member {
            Some((offset, length)) => &object.body[offset as usize..(offset + length) as usize],
            None => &object.body[..],
        };
        for line in archive::lines(bytes, location).unwrap() {
            lines.push(format!("  {}", String::from_utf8(line.to_vec()).unwrap()));
        }
    }
    lines
}
