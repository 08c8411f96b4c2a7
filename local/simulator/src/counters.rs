//! What happened, over the whole fleet.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that many devices raise.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        // Nothing is published through a counter, so no ordering is needed.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts `n` fewer, for what rises and falls.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a fleet, `status` messages left out: a broker says those for a device, too.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are up now.
    pub connected: Counter,
    /// Messages that devices made: each has its own `seq`.
    pub created: Counter,
    /// Put into a send buffer: those made, without the dropped, with the duplicates.
    pub queued: Counter,
    /// Handed to a broker for the first time.
    pub sent: Counter,
    /// Handed to a broker again, since the connection was lost before the acknowledgement.
    pub resent: Counter,
    /// Acknowledged by a broker.
    pub acknowledged: Counter,
    /// Thrown out of a full send buffer.
    pub overflowed: Counter,
    /// `--loss`
    pub dropped: Counter,
    /// `--duplication`
    pub duplicated: Counter,
    /// `--reordering`: held back until a later one had passed.
    pub reordered: Counter,
    /// Commands accepted.
    pub commands_accepted: Counter,
    /// Commands rejected or unsupported.
    pub commands_rejected: Counter,
    /// Commands that came again, and were only acknowledged again.
    pub commands_repeated: Counter,
    /// Commands ignored: expired, or without a readable id.
    pub commands_ignored: Counter,
    /// Power-ons after the first one.
    pub restarts: Counter,
    /// Connections lost without a goodbye.
    pub connections_lost: Counter,
}

impl Counters {
    /// In send buffers or on the way, not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        // Three loads at three instants: a device in between may make the difference negative.
        self.queued.get().saturating_sub(self.acknowledged.get() + self.overflowed.get())
    }
}
