//! The messages themselves, a line each.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use meter_domain::archive::{self, Location};
use meter_domain::id::Mid;
use meter_http::Failure;
use meter_http::size::Bounded;
use meter_store::{Archive, StoreError};
use serde::Deserialize;

use super::listing::Found;

pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// Objects that are fetched at once.
const FETCHED_AT_ONCE: usize = 16;

/// Messages whose objects are fetched before their lines are taken: an answer that is full after a few
/// large messages shall not have fetched a thousand.
const WINDOW: usize = 100;

/// The lines of the first messages that fit into an answer, at least one, and how many messages these
/// are. A message whose object is gone or damaged is left out, and the log says so.
pub(super) async fn lines<O: Archive>(
    archive: &O,
    found: &[Found],
    max_bytes: usize,
) -> Result<(String, usize), Failure> {
    let wanted: HashSet<Mid> = found.iter().map(|f| f.place.mid).collect();
    let mut fetched: HashSet<&Location> = HashSet::new();
    let mut lines: HashMap<Mid, Bytes> = HashMap::new();
    let mut text = Bounded::new(max_bytes);
    for (start, window) in (0..).step_by(WINDOW).zip(found.chunks(WINDOW)) {
        // Messages of one batch share a member of an object: it is fetched once.
        let locations = window.iter().map(|f| &f.head.location);
        let missing: Vec<_> = locations.filter(|l| fetched.insert(l)).collect();
        for (mid, line) in fetch(archive, &missing).await? {
            if wanted.contains(&mid) {
                lines.insert(mid, line);
            }
        }
        for (index, message) in (start..).zip(window) {
            let Some(line) = lines.remove(&message.place.mid) else {
                tracing::error!(mid = %message.place.mid, object = message.head.location.object,
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
) -> Result<Vec<(Mid, Bytes)>, StoreError> {
    let fetches: Vec<_> = locations.iter().map(|l| fetch_one(archive, l)).collect();
    let fetched: Vec<_> =
        stream::iter(fetches).buffer_unordered(FETCHED_AT_ONCE).try_collect().await?;
    Ok(fetched.into_iter().flatten().collect())
}

async fn fetch_one<O: Archive>(
    archive: &O,
    location: &Location,
) -> Result<Vec<(Mid, Bytes)>, StoreError> {
    match archive.get(location).await {
        Ok(object) => Ok(object.map_or_else(Vec::new, |object| unpack(&object, location))),
        // One damaged object must not hide all the others.
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(object = location.object, "damaged: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn unpack(object: &[u8], location: &Location) -> Vec<(Mid, Bytes)> {
    #[derive(Deserialize)]
    struct Identity {
        mid: Mid,
    }
    let lines = archive::lines(object, location).unwrap_or_else(|error| {
        tracing::error!(object = location.object, "damaged: {error}");
        Vec::new()
    });
    let identified = lines.into_iter().filter_map(|line| {
        let identity: Identity = serde_json::from_slice(&line).ok()?;
        Some((identity.mid, line))
    });
    identified.collect()
}
