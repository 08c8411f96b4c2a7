//! Messages as NDJSON: one line each.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use meter_domain::archive::{self, Location};
use meter_domain::id::MessageId;
use meter_http::ApiError;
use meter_http::response_limit::BoundedText;
use meter_store::{Archive, StoreError};
use serde::Deserialize;

use super::list_query::FoundMessage;

pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// The number of objects that are fetched concurrently.
const FETCH_CONCURRENCY: usize = 16;

/// The number of messages whose objects are fetched before their lines are used: a response that a
/// few large messages fill must not fetch a thousand objects.
const FETCH_WINDOW: usize = 100;

/// The lines of the first messages that fit into a response, at least one, and the number of these
/// messages. A message whose object is missing or corrupt is left out and logged.
pub(super) async fn lines<O: Archive>(
    archive: &O,
    found: &[FoundMessage],
    max_bytes: usize,
) -> Result<(String, usize), ApiError> {
    let wanted: HashSet<MessageId> = found.iter().map(|f| f.place.message_id).collect();
    let mut fetched: HashSet<&Location> = HashSet::new();
    let mut lines: HashMap<MessageId, Bytes> = HashMap::new();
    let mut text = BoundedText::new(max_bytes);
    for (start, window) in (0..).step_by(FETCH_WINDOW).zip(found.chunks(FETCH_WINDOW)) {
        // The messages of a batch share a member of an object, which is fetched once.
        let locations = window.iter().map(|f| &f.index_entry.location);
        let missing: Vec<_> = locations.filter(|l| fetched.insert(l)).collect();
        for (message_id, line) in fetch(archive, &missing).await? {
            if wanted.contains(&message_id) {
                lines.insert(message_id, line);
            }
        }
        for (index, message) in (start..).zip(window) {
            let Some(line) = lines.remove(&message.place.message_id) else {
                tracing::error!(message_id = %message.place.message_id, object_key = message.index_entry.location.object,
                    "a message of the index is not in the archive");
                continue;
            };
            if !text.push(&format!("{}\n", String::from_utf8_lossy(&line))) {
                return Ok((text.into_text(), index));
            }
        }
    }
    Ok((text.into_text(), found.len()))
}

async fn fetch<O: Archive>(
    archive: &O,
    locations: &[&Location],
) -> Result<Vec<(MessageId, Bytes)>, StoreError> {
    let fetches: Vec<_> = locations.iter().map(|l| fetch_one(archive, l)).collect();
    let fetched: Vec<_> =
        stream::iter(fetches).buffer_unordered(FETCH_CONCURRENCY).try_collect().await?;
    Ok(fetched.into_iter().flatten().collect())
}

async fn fetch_one<O: Archive>(
    archive: &O,
    location: &Location,
) -> Result<Vec<(MessageId, Bytes)>, StoreError> {
    match archive.get(location).await {
        Ok(object) => Ok(object.map_or_else(Vec::new, |object| unpack(&object, location))),
        // A corrupt object must not hide the messages of others.
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(object_key = location.object, "an object is corrupt: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn unpack(object: &[u8], location: &Location) -> Vec<(MessageId, Bytes)> {
    #[derive(Deserialize)]
    struct ArchivedLine {
        #[serde(rename = "mid")]
        message_id: MessageId,
    }
    let lines = archive::lines(object, location).unwrap_or_else(|error| {
        tracing::error!(object_key = location.object, "an object is corrupt: {error}");
        Vec::new()
    });
    let identified = lines.into_iter().filter_map(|line| {
        let identity: ArchivedLine = serde_json::from_slice(&line).ok()?;
        Some((identity.message_id, line))
    });
    identified.collect()
}
