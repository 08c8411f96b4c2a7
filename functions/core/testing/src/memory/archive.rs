use bytes::Bytes;
use meter_domain::archive::Location;
use meter_store::{Archive, ArchiveKeys, Opened, Probe, StoreError, WriteError};
use sha2::{Digest, Sha256};

use super::{KEYS_PER_LIST, Memory, Operation};

impl Archive for Memory {
    async fn put(
        &self,
        key: &str,
        _content_type: &'static str,
        body: Bytes,
    ) -> Result<(), StoreError> {
        self.call(Operation::PutObject, |tables| {
            tables.objects.insert(key.to_owned(), body);
        })
        .await
    }

    async fn get(&self, location: &Location) -> Result<Option<Bytes>, StoreError> {
        self.call(Operation::GetObject, |tables| {
            let Some(object) = tables.objects.get(&location.object) else {
                return Ok(None);
            };
            let Some((offset, length)) = location.member else {
                return Ok(Some(object.clone()));
            };
            let range = usize::try_from(offset)
                .ok()
                .zip(usize::try_from(offset.saturating_add(length)).ok())
                .filter(|(start, end)| start < end && *end <= object.len());
            match range {
                Some((start, end)) => Ok(Some(object.slice(start..end))),
                None => Err(StoreError::Corrupt {
                    what: location.object.clone(),
                    reason: format!("has no {length} bytes at {offset}"),
                }),
            }
        })
        .await?
    }

    async fn open(&self, key: &str) -> Result<Option<Opened>, StoreError> {
        self.call(Operation::OpenObject, |tables| {
            let body = tables.objects.get(key).cloned()?;
            Some(Opened { version: version(&body), body })
        })
        .await
    }

    async fn replace(
        &self,
        key: &str,
        _content_type: &'static str,
        body: Bytes,
        read: &Opened,
    ) -> Result<(), WriteError> {
        self.call(Operation::ReplaceObject, |tables| match tables.objects.get_mut(key) {
            Some(stored) if version(stored) == read.version => {
                *stored = body;
                Ok(())
            }
            _ => Err(WriteError::Conflict),
        })
        .await?
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.call(Operation::RemoveObject, |tables| {
            tables.objects.remove(key);
        })
        .await
    }
}

impl ArchiveKeys for Memory {
    async fn keys(&self, prefix: &str, after: &str) -> Result<(Vec<String>, bool), StoreError> {
        self.call(Operation::ListObjects, |tables| {
            let from = after.max(prefix);
            let keys = tables.objects.range(from.to_owned()..).map(|(key, _)| key);
            let keys = keys.take_while(|key| key.starts_with(prefix)).filter(|key| *key != after);
            let mut keys: Vec<String> = keys.take(KEYS_PER_LIST + 1).cloned().collect();
            let more = keys.len() > KEYS_PER_LIST;
            keys.truncate(KEYS_PER_LIST);
            (keys, more)
        })
        .await
    }
}

/// A digest, as S3's is.
fn version(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

impl Probe for Memory {
    async fn probe(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        vec![("memory", self.call(Operation::Probe, |_| ()).await)]
    }
}
