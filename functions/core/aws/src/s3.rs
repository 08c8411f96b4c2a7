//! The archive in an S3 bucket.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use meter_domain::archive::Location;
use meter_store::{Archive, ArchiveListing, StoreError, VersionedObject, WriteError};

use super::Clients;
use crate::error::classify;

/// Implements [`Archive`] and [`ArchiveListing`] with a bucket.
#[derive(Debug, Clone)]
pub struct S3Archive {
    client: aws_sdk_s3::Client,
    name: String,
}

impl S3Archive {
    /// Creates the adapter of the bucket `name`.
    pub fn new(clients: &Clients, name: impl Into<String>) -> Self {
        Self { client: clients.s3.clone(), name: name.into() }
    }
}

impl Archive for S3Archive {
    async fn put(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<(), StoreError> {
        // The SDK adds a checksum, which S3 verifies and stores.
        self.client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from(body))
            .send()
            .await
            .map_err(classify("s3:PutObject"))?;
        Ok(())
    }

    async fn get(&self, location: &Location) -> Result<Option<Bytes>, StoreError> {
        const OPERATION: &str = "s3:GetObject";
        let corrupt =
            |reason: String| StoreError::Corrupt { what: location.object.clone(), reason };
        let range = match location.member {
            Some((_, 0)) => return Err(corrupt("a member of 0 bytes".to_owned())),
            Some((offset, length)) => {
                let last = offset.saturating_add(length - 1);
                Some(format!("bytes={offset}-{last}"))
            }
            None => None,
        };
        let response = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(&location.object)
            .set_range(range)
            .send()
            .await;
        let object = match response {
            Ok(object) => object,
            Err(error) => match http_status(&error) {
                _ if is_missing(&error) => return Ok(None),
                // Range not satisfiable.
                Some(416) => return Err(corrupt("ends before the member begins".to_owned())),
                _ => return Err(classify(OPERATION)(error)),
            },
        };
        let body = object.body.collect().await;
        let body = body.map_err(|error| StoreError::unavailable(OPERATION, error))?;
        let bytes = body.into_bytes();
        match location.member {
            // S3 returns fewer bytes if the object ends inside of the range.
            Some((_, length)) if bytes.len() as u64 != length => {
                Err(corrupt(format!("has {} of the {length} bytes of the member", bytes.len())))
            }
            _ => Ok(Some(bytes)),
        }
    }

    async fn get_versioned(&self, key: &str) -> Result<Option<VersionedObject>, StoreError> {
        const OPERATION: &str = "s3:GetObject";
        let object = match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(object) => object,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(classify(OPERATION)(error)),
        };
        let version = object.e_tag.unwrap_or_default();
        let body = object.body.collect().await;
        let body = body.map_err(|error| StoreError::unavailable(OPERATION, error))?.into_bytes();
        Ok(Some(VersionedObject { body, version }))
    }

    async fn replace(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
        read: &VersionedObject,
    ) -> Result<(), WriteError> {
        let sent = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .content_type(content_type)
            .if_match(&read.version)
            .body(ByteStream::from(body))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            // Another version is stored, a concurrent write is in progress, or the object is
            // deleted.
            Err(error) if matches!(http_status(&error), Some(412 | 409 | 404)) => {
                Err(WriteError::Conflict)
            }
            Err(error) => Err(classify("s3:PutObject")(error).into()),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let remove = self.client.delete_object().bucket(&self.name).key(key);
        remove.send().await.map(drop).map_err(classify("s3:DeleteObject"))
    }
}

impl ArchiveListing for S3Archive {
    async fn list_keys(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let list = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let after = (!after.is_empty()).then(|| after.to_owned());
        let sent = list.set_start_after(after).send().await;
        let page = sent.map_err(classify("s3:ListObjectsV2"))?;
        let keys = page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
        Ok((keys.collect(), page.is_truncated.unwrap_or(false)))
    }
}

fn is_missing(error: &SdkError<GetObjectError>) -> bool {
    error.as_service_error().is_some_and(GetObjectError::is_no_such_key)
}

fn http_status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|raw| raw.status().as_u16())
}
