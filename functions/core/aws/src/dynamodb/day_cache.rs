//! Which days' index entries this process has written already, so that it writes a device's day once
//! and not with each message.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::batch::Key;

/// Entries that are remembered: some 200 bytes each, for a fleet of some ten thousand devices.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(20_000);

/// The keys of index entries that are known to be stored.
#[derive(Debug)]
pub(super) struct DayCache(Mutex<LruCache<Key, ()>>);

impl Default for DayCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }
}

impl DayCache {
    /// Whether it is known to be stored; it counts as used then.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.lock().get(key).is_some()
    }

    /// Notes that it is stored. Never before it is: a write that failed has to be done again.
    pub(super) fn insert(&self, key: Key) {
        self.lock().put(key, ());
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, ()>> {
        // The cache is consistent between two calls of it, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
