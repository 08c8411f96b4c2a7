//! Counters of the whole fleet.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that devices share.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // No other data depends on the value, so relaxed ordering is enough.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts `n`, for a gauge.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a fleet. They exclude `status` messages, which a broker also sends as last
/// wills.
#[derive(Debug, Default)]
pub struct Counters {
    /// Current connections.
    pub connected: Counter,
    /// Messages that devices created, each with its own `seq`.
    pub created: Counter,
    /// Messages put into send buffers: those created, without dropped ones, with duplicates.
    pub queued: Counter,
    /// Messages published for the first time.
    pub sent: Counter,
    /// Messages published again, since the connection was lost before the acknowledgement.
    pub resent: Counter,
    /// Messages acknowledged by a broker.
    pub acknowledged: Counter,
    /// Messages removed from a full send buffer.
    pub overflowed: Counter,
    /// Messages dropped by `--loss`.
    pub dropped: Counter,
    /// Messages duplicated by `--duplication`.
    pub duplicated: Counter,
    /// Messages sent after later ones by `--reordering`.
    pub reordered: Counter,
    /// Commands accepted.
    pub commands_accepted: Counter,
    /// Commands rejected or unsupported.
    pub commands_rejected: Counter,
    /// Commands received again: acknowledged, not executed.
    pub commands_repeated: Counter,
    /// Commands ignored: expired, or without a valid id.
    pub commands_ignored: Counter,
    /// Power-ons after the first one.
    pub restarts: Counter,
    /// Connections lost without a DISCONNECT.
    pub connections_lost: Counter,
}

impl Counters {
    /// Messages in send buffers or in flight.
    pub fn unacknowledged(&self) -> u64 {
        // The loads are not atomic together, so the difference can be negative.
        self.queued.get().saturating_sub(self.acknowledged.get() + self.overflowed.get())
    }
}
