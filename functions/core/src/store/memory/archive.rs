use bytes::Bytes;

use super::{Memory, Operation};
use crate::archive::Location;
use crate::store::{Archive, Probe, StoreError};

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
}

impl Probe for Memory {
    async fn probe(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        vec![("memory", self.call(Operation::Probe, |_| ()).await)]
    }
}
