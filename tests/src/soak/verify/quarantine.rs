//! What could not be read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use serde::Deserialize;

use super::super::model::Expected;
use super::super::play::Played;
use super::super::rest::Api;
use super::super::world::World;
use super::{Found, parse};

/// Each message that could not be read once, byte for byte.
pub(super) async fn quarantine(
    world: &mut World,
    played: &Played,
    expected: &Expected,
    found: &mut Found,
) -> Result<()> {
    let from = super::super::story::begin(played.cast.seed);
    let mut count = 0;
    let mut missing: BTreeMap<(String, Vec<u8>), &BTreeSet<Timestamp>> =
        expected.quarantine.iter().map(|(key, at)| (key.clone(), at)).collect();
    for entry in entries_since(&mut world.api, from).await? {
        let path = format!("/api/quarantine/{}", entry.id);
        if !entry.topic.is_empty() && !is_of(played, entry.topic.as_bytes()) {
            continue;
        }
        let bytes = world.api.bytes(&path).await?;
        if entry.topic.is_empty() && !is_of(played, &bytes) {
            continue;
        }
        count += 1;
        match missing.remove(&(entry.topic.clone(), bytes)) {
            Some(receipts) if receipts.contains(&entry.received_at) => {}
            Some(receipts) => found.difference(
                "quarantine",
                format!("{} came at {:?}, not {}", entry.id, receipts, entry.received_at),
            ),
            None => found.difference(
                "quarantine",
                format!("{} on {:?} is there twice, or should not be", entry.id, entry.topic),
            ),
        }
    }
    for ((topic, payload), _) in missing {
        let text = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
        found.difference("quarantine", format!("{text:?} on {topic:?} is missing"));
    }
    found.totals.quarantined.add(expected.quarantine.len(), count);
    Ok(())
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    topic: String,
    received_at: Timestamp,
}

/// Whether bytes name a device of the cast: other seeds leave entries of the same time.
fn is_of(played: &Played, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    played.cast.devices.iter().any(|character| text.contains(&character.id))
}

/// All entries from a time on.
async fn entries_since(api: &mut Api, from: Timestamp) -> Result<Vec<Entry>> {
    let path = "/api/quarantine";
    let entries = api.list_until(path, |item| {
        item["received_at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok())
            .is_some_and(|at| at < from)
    });
    entries.await?.into_iter().map(|item| parse(item, path)).collect()
}
