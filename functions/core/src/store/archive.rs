//! Objects of bytes.

use std::future::Future;

use bytes::Bytes;

use super::StoreError;
use crate::archive::Location;

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
}
