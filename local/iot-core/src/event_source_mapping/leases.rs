//! Messages that the queue has hidden from others, as long as this edge works on them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

/// The messages in the hands of this edge, from receipt to deletion.
///
/// They are hidden for a short time only, so that those of an edge that is killed come back soon; so the
/// time must be extended while a long invocation runs, and for those that wait behind it.
#[derive(Debug)]
pub(super) struct Leases {
    visibility: Duration,
    held: Mutex<HashMap<String, Lease>>,
}

#[derive(Debug)]
struct Lease {
    receipt: String,
    until: Instant,
    /// Room among the messages that may be held.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Leases {
    pub(super) fn new(visibility: Duration) -> Self {
        Self { visibility, held: Mutex::default() }
    }

    /// Enters a message that was received just now. False when it is held already: then its lease ran
    /// out, the queue handed it out again, and the new receipt is the one that counts.
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

    /// The receipt to delete a message by.
    pub(super) fn receipt(&self, message_id: &str) -> Option<String> {
        self.held().get(message_id).map(|lease| lease.receipt.clone())
    }

    /// Lets go of messages: they are deleted, or the queue may have them back. Returns their receipts.
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

    /// Id and receipt of the messages that have less than half of their time left.
    pub(super) fn expiring(&self, now: Instant) -> Vec<(String, String)> {
        let horizon = now + self.visibility / 2;
        self.held()
            .iter()
            .filter(|(_, lease)| lease.until < horizon)
            .map(|(id, lease)| (id.clone(), lease.receipt.clone()))
            .collect()
    }

    /// Notes that the queue hides a message anew from `now` on.
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
    fn a_message_is_extended_when_half_of_its_time_is_over() {
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
    fn a_message_that_comes_again_while_it_is_held_is_not_worked_on_twice() {
        let (leases, start) = (Leases::new(VISIBILITY), Instant::now());
        assert!(leases.insert("a", "r1", start, None));
        assert!(!leases.insert("a", "r2", after(start, 31), None));
        assert_eq!(leases.receipt("a").as_deref(), Some("r2"));
        assert!(leases.expiring(after(start, 40)).is_empty());
        assert_eq!(leases.release(["a"]), ["r2"]);
        assert!(leases.insert("a", "r3", after(start, 62), None));
    }

    #[test]
    fn a_message_that_is_let_go_is_not_extended_and_makes_room() {
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
