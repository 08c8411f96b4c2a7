//! Cache of the day index entries that this process has written, so that it writes the entry of a
//! device and day once and not with each message.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::batch::Key;

/// Entries in the cache, about 200 bytes each: enough for ten thousand devices.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(20_000);

/// The keys of stored index entries, least recently used first out.
#[derive(Debug)]
pub(super) struct DayCache(Mutex<LruCache<Key, ()>>);

impl Default for DayCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }
}

impl DayCache {
    /// Returns whether an entry is known to be stored, and marks it as used.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.lock().get(key).is_some()
    }

    /// Adds an entry. Call it after the write succeeded: a failed write must be repeated.
    pub(super) fn insert(&self, key: Key) {
        self.lock().put(key, ());
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, ()>> {
        // The cache is consistent after every call, so that a panic elsewhere does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
