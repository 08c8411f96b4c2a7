//! Changing a device's state, or its row of the registry, under an optimistic lock: read, decide, write; whoever loses
//! reads and decides again, and never overwrites.

use meter_domain::device::Device;
use meter_domain::id::DeviceId;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::retry;
use meter_store::{DeviceStore, StateStore, StateWrite, StoreError, WriteError};

/// Applies `change` to the state of a device (a new one, if it was never heard) and stores it; returns
/// the state as stored. `change` runs once an attempt, each time on a fresh read.
pub async fn update_state<S: StateStore>(
    states: &S,
    id: &DeviceId,
    change: impl Fn(&mut DeviceState) + Send + Sync,
) -> Result<DeviceState, StoreError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        let mut state = read_state(states, id).await?;
        let connection_before = state.presence.connection;
        change(&mut state);
        match save_state(states, StateWrite { state, connection_before }).await {
            Ok(state) => return Ok(state),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    Err(version_conflict_error())
}

/// The state of one device, new if it was never heard.
pub async fn read_state<S: StateStore>(
    states: &S,
    id: &DeviceId,
) -> Result<DeviceState, StoreError> {
    let mut found = states.get_many(std::slice::from_ref(id)).await?;
    Ok(found.remove(id).unwrap_or_else(|| DeviceState::new(id.clone())))
}

/// Stores one state; returns it with its new version.
pub async fn save_state<S: StateStore>(
    states: &S,
    write: StateWrite,
) -> Result<DeviceState, WriteError> {
    let answers = states.save_many(std::slice::from_ref(&write)).await;
    answers.into_iter().next().unwrap_or(Err(WriteError::Conflict))?;
    let mut state = write.state;
    state.version += 1;
    Ok(state)
}

/// Why a row of the registry is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// No device of this id is registered.
    #[error("not registered")]
    NotRegistered,
    /// What was to change it says no.
    #[error("refused: {0}")]
    Rejected(E),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Applies `change` to a device's row of the registry and stores it; returns the row as stored, but for its revision.
/// `change` runs once an attempt, each time on a fresh read.
pub async fn update_device<D: DeviceStore, E: Send>(
    registry: &D,
    id: &DeviceId,
    now: Timestamp,
    change: impl Fn(&mut Device) -> Result<(), E> + Send + Sync,
) -> Result<Device, UpdateError<E>> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        let before = registry.get(id).await?.ok_or(UpdateError::NotRegistered)?;
        let mut after = before.clone();
        change(&mut after).map_err(UpdateError::Rejected)?;
        after.updated_at = now.max(before.updated_at);
        match registry.update(&before, &after).await {
            Ok(()) => return Ok(after),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(version_conflict_error().into())
}

/// What to say when the retries for a lock have ended.
pub fn version_conflict_error() -> StoreError {
    StoreError::Unavailable {
        operation: "the lock of a device",
        source: format!("lost {} times in a row", retry::MAX_ATTEMPTS).into(),
    }
}
