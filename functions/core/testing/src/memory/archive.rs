use bytes::Bytes;
use meter_domain::archive::Location;
use meter_store::{Archive, ArchiveListing, Probe, StoreError, VersionedObject, WriteError};
use sha2::{Digest, Sha256};

use super::{MAX_KEYS_PER_LIST, MemoryStores, Operation};

impl Archive for MemoryStores {
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
                    reason: format!("no {length} bytes at offset {offset}"),
                }),
            }
        })
        .await?
    }

    async fn get_versioned(&self, key: &str) -> Result<Option<VersionedObject>, StoreError> {
        self.call(Operation::GetVersionedObject, |tables| {
            let body = tables.objects.get(key).cloned()?;
            Some(VersionedObject { version: version(&body), body })
        })
        .await
    }

    async fn replace(
        &self,
        key: &str,
        _content_type: &'static str,
        body: Bytes,
        read: &VersionedObject,
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

impl ArchiveListing for MemoryStores {
    async fn list_keys(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<(Vec<String>, bool), StoreError> {
        self.call(Operation::ListObjects, |tables| {
            let from = after.max(prefix);
            let keys = tables.objects.range(from.to_owned()..).map(|(key, _)| key);
            let keys = keys.take_while(|key| key.starts_with(prefix)).filter(|key| *key != after);
            let mut keys: Vec<String> = keys.take(MAX_KEYS_PER_LIST + 1).cloned().collect();
            let more = keys.len() > MAX_KEYS_PER_LIST;
            keys.truncate(MAX_KEYS_PER_LIST);
            (keys, more)
        })
        .await
    }
}

/// A digest of the content, like an ETag of S3.
fn version(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

impl Probe for MemoryStores {
    async fn probe(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        vec![("memory", self.call(Operation::Probe, |_| ()).await)]
    }
}
