//! The messages that the queue hides from other consumers while this one processes them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

/// The messages that this consumer holds, from receipt to deletion.
///
/// Their visibility timeout is short, so that messages of a killed process are redelivered soon. It
/// is extended while an invocation runs, and for messages that wait.
#[derive(Debug)]
pub(super) struct Leases {
    visibility: Duration,
    held: Mutex<HashMap<String, Lease>>,
}

#[derive(Debug)]
struct Lease {
    receipt: String,
    until: Instant,
    /// A permit for the place among the messages held.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Leases {
    pub(super) fn new(visibility: Duration) -> Self {
        Self { visibility, held: Mutex::default() }
    }

    /// Adds a received message. Returns false if it is held already: the queue has redelivered it,
    /// and only the new receipt handle is valid.
    pub(super) fn insert(
        &self,
        message_id: &str,
        receipt: &str,
        now: Instant,
        permit: Option<OwnedSemaphorePermit>,
    ) -> bool {
        let mut held = self.held();
        let until = now + self.visibility;
        if let Some(lease) = held.get_mut(message_id) {
            lease.receipt = receipt.to_owned();
            lease.until = until;
            return false;
        }
        let lease = Lease { receipt: receipt.to_owned(), until, _permit: permit };
        held.insert(message_id.to_owned(), lease);
        true
    }

    /// Returns the receipt handle to delete a message with.
    pub(super) fn receipt(&self, message_id: &str) -> Option<String> {
        self.held().get(message_id).map(|lease| lease.receipt.clone())
    }

    /// Removes messages; returns their receipt handles.
    pub(super) fn release<'a>(
        &self,
        message_ids: impl IntoIterator<Item = &'a str>,
    ) -> Vec<String> {
        let mut held = self.held();
        message_ids
            .into_iter()
            .filter_map(|id| held.remove(id))
            .map(|lease| lease.receipt)
            .collect()
    }

    /// Returns id and receipt handle of the messages that have less than half of their visibility
    /// timeout left.
    pub(super) fn expiring(&self, now: Instant) -> Vec<(String, String)> {
        let horizon = now + self.visibility / 2;
        self.held()
            .iter()
            .filter(|(_, lease)| lease.until < horizon)
            .map(|(id, lease)| (id.clone(), lease.receipt.clone()))
            .collect()
    }

    /// Records that the visibility timeout of a message restarted at `now`.
    pub(super) fn extend(&self, message_id: &str, now: Instant) {
        if let Some(lease) = self.held().get_mut(message_id) {
            lease.until = now + self.visibility;
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(30);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn lease_is_extended_after_half_of_its_time() {
        let (leases, start) = (Leases::new(VISIBILITY), Instant::now());
        leases.insert("a", "r1", start, None);
        leases.insert("b", "r2", after(start, 10), None);
        assert!(leases.expiring(after(start, 15)).is_empty());
        assert_eq!(leases.expiring(after(start, 16)), [("a".to_owned(), "r1".to_owned())]);
        leases.extend("a", after(start, 16));
        assert!(leases.expiring(after(start, 16)).is_empty());
        assert_eq!(leases.expiring(after(start, 40)).len(), 2);
    }

    #[test]
    fn redelivery_of_a_held_message_only_updates_its_receipt() {
        let (leases, start) = (Leases::new(VISIBILITY), Instant::now());
        assert!(leases.insert("a", "r1", start, None));
        assert!(!leases.insert("a", "r2", after(start, 31), None));
        assert_eq!(leases.receipt("a").as_deref(), Some("r2"));
        assert!(leases.expiring(after(start, 40)).is_empty());
        assert_eq!(leases.release(["a"]), ["r2"]);
        assert!(leases.insert("a", "r3", after(start, 62), None));
    }

    #[test]
    fn released_message_is_not_extended_and_frees_its_permit() {
        let semaphore = Arc::new(Semaphore::new(1));
        let (leases, start) = (Leases::new(VISIBILITY), Instant::now());
        let permit = Arc::clone(&semaphore).try_acquire_owned().unwrap();
        leases.insert("a", "r1", start, Some(permit));
        assert_eq!(semaphore.available_permits(), 0);

        assert_eq!(leases.release(["a", "unknown"]), ["r1"]);
        assert_eq!(semaphore.available_permits(), 1);
        assert!(leases.expiring(after(start, 1_000)).is_empty());
        assert_eq!(leases.receipt("a"), None);
    }
}
