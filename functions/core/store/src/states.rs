//! The ports of device states, ingest lag and queue depth.

use std::collections::HashMap;
use std::future::Future;

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use uuid::Uuid;

use super::{StoreError, WriteError};

/// A new device state, to be written with an optimistic update.
#[derive(Debug, Clone)]
pub struct StateWrite {
    /// The new state, with the version that was read.
    pub state: DeviceState,
    /// The connection status that was read. The fleet counters of registered devices follow its
    /// change.
    pub connection_before: Connection,
}

/// Stores device states with optimistic updates.
pub trait StateStore: Send + Sync {
    /// Returns the states that exist; the read is consistent.
    fn get_many(
        &self,
        ids: &[DeviceId],
    ) -> impl Future<Output = Result<HashMap<DeviceId, DeviceState>, StoreError>> + Send;

    /// Writes each state under the next version, if its version is still the stored one (0 if none
    /// is).
    ///
    /// Returns the results in order. A write that fails does not affect the others.
    fn save_many(
        &self,
        writes: &[StateWrite],
    ) -> impl Future<Output = Vec<Result<(), WriteError>>> + Send;

    /// Returns at most `limit` devices whose [`DeviceState::next_check`] is not after `now`.
    ///
    /// The read is eventually consistent, so a device can be listed that is no longer due.
    fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeviceId>, StoreError>> + Send;
}

/// The ingest lag of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestLag {
    /// The process.
    pub process_id: Uuid,
    /// The time of the report.
    pub reported_at: Timestamp,
    /// The greatest age of a message since the preceding report, in seconds.
    pub lag_s: u32,
}

/// Seconds for which a report of ingest lag is valid. A process that has work reports more often.
pub const INGEST_LAG_TTL_S: i64 = 30;

/// Stores the ingest lag of the processes.
pub trait IngestLagStore: Send + Sync {
    /// Replaces the preceding report of a process.
    ///
    /// Processes share a fixed number of slots: a valid report with a greater lag is kept.
    fn record_ingest_lag(
        &self,
        lag: IngestLag,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the greatest lag among the reports that are valid at `now`; `None` without such a
    /// report.
    fn ingest_lag(
        &self,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<IngestLag>, StoreError>> + Send;
}

/// Reports the depth of the ingest queue.
pub trait QueueDepth: Send + Sync {
    /// Returns the approximate number of messages in the queue, including those in flight.
    fn depth(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
