//! What is known of each device, under optimistic locks, and how far ingest is.

use std::collections::HashMap;
use std::future::Future;

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use uuid::Uuid;

use super::{StoreError, WriteError};

/// A state to write, and what it was.
#[derive(Debug, Clone)]
pub struct StateWrite {
    /// As it should be; its version is still the one that was read.
    pub state: DeviceState,
    /// The connection as it was read: for a registered device the fleet's counts follow the change.
    pub connection_before: Connection,
}

/// Device states, under optimistic locks.
pub trait StateStore: Send + Sync {
    /// The states that exist, read consistently.
    fn get_many(
        &self,
        ids: &[DeviceId],
    ) -> impl Future<Output = Result<HashMap<DeviceId, DeviceState>, StoreError>> + Send;

    /// Writes each state if its version is still the stored one (0: none is stored), with the version
    /// after it. One answer a write, in order; one that fails does not hold up the others.
    fn save_many(
        &self,
        writes: &[StateWrite],
    ) -> impl Future<Output = Vec<Result<(), WriteError>>> + Send;

    /// Devices whose [`DeviceState::due`] is not after `now`, at most `limit`; a stale read is allowed,
    /// so a device may be among them that no longer is due.
    fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeviceId>, StoreError>> + Send;
}

/// How far a process of ingest is with what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestLag {
    /// Which process says so.
    pub process_id: Uuid,
    /// When it last handled a batch.
    pub reported_at: Timestamp,
    /// How old the oldest message was that it has handled since it said so before, in seconds.
    pub lag_s: u32,
}

/// Seconds for which what a process says of its progress counts. It says so more often while it has work.
pub const INGEST_LAG_TTL_S: i64 = 30;

/// Remembers how far ingest is.
pub trait IngestLagStore: Send + Sync {
    /// Notes it in place of what the process noted before. Processes share a few places: a note of another process
    /// gives way when it is no further behind, or counts no more.
    fn record_ingest_lag(
        &self,
        progress: IngestLag,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Of the notes that count at `now`, the one that is furthest behind; none: nothing was ingested lately.
    fn ingest_lag(
        &self,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<IngestLag>, StoreError>> + Send;
}

/// How much waits for ingest.
pub trait QueueDepth: Send + Sync {
    /// About how many messages are in the queue, handed out ones included.
    fn depth(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
