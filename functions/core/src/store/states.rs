//! What is known of each device, under optimistic locks.

use std::collections::HashMap;
use std::future::Future;

use super::{StoreError, WriteError};
use crate::id::DeviceId;
use crate::state::{Connection, DeviceState};

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
}
