//! The ports of the archive: objects of bytes under keys.

use std::future::Future;

use bytes::Bytes;
use meter_domain::archive::Location;

use super::{StoreError, WriteError};

/// The content of an object and its version, for a conditional [`Archive::replace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedObject {
    /// The whole content.
    pub body: Bytes,
    /// An opaque version that differs for different contents.
    pub version: String,
}

/// Stores objects of bytes.
pub trait Archive: Send + Sync {
    /// Writes an object, or replaces the one under the same key.
    fn put(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads the bytes at a location; `None` if there is no such object.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the object does not contain the whole range of the member.
    fn get(
        &self,
        location: &Location,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Reads a whole object; `None` if there is no such object.
    fn get_versioned(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<VersionedObject>, StoreError>> + Send;

    /// Replaces an object, if its version is still the one that was read.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] otherwise, so that concurrent redactions cannot undo each other.
    fn replace(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
        read: &VersionedObject,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Deletes an object, if it exists.
    fn remove(&self, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Lists the keys of the archive.
pub trait ArchiveListing: Send + Sync {
    /// Returns the first keys with a prefix after the key `after`, in byte order, and whether more
    /// may follow.
    fn list_keys(
        &self,
        prefix: &str,
        after: &str,
    ) -> impl Future<Output = Result<(Vec<String>, bool), StoreError>> + Send;
}
