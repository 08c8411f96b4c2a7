//! Objects of bytes.

use std::future::Future;

use bytes::Bytes;
use meter_domain::archive::Location;

use super::{StoreError, WriteError};

/// An object as it was read, to replace exactly that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedObject {
    /// All of it.
    pub body: Bytes,
    /// Differs from that of any other content. Opaque to everybody but the store.
    pub version: String,
}

/// Keeps objects of bytes.
pub trait Archive: Send + Sync {
    /// Writes an object; the same key again replaces it with the same bytes.
    fn put(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads the bytes at a location; none when there is no such object.
    fn get(
        &self,
        location: &Location,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Reads a whole object; none when there is no such object.
    fn get_versioned(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<VersionedObject>, StoreError>> + Send;

    /// Writes an object in place of what was read, if that is still there: two who take something out of
    /// one object must not bring back what the other one took.
    fn replace(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
        read: &VersionedObject,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Removes an object, if there is one.
    fn remove(&self, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Tells which objects there are.
pub trait ArchiveListing: Send + Sync {
    /// The first of the keys that begin with `prefix` and come after `after`, in the order of their bytes, and
    /// whether there may be more after the last of them.
    fn list_keys(
        &self,
        prefix: &str,
        after: &str,
    ) -> impl Future<Output = Result<(Vec<String>, bool), StoreError>> + Send;
}
