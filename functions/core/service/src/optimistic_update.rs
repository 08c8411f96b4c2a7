//! Updates the state or the registry row of a device with optimistic concurrency control: after a
//! version conflict the change is computed again from a new read.

use meter_domain::device::Device;
use meter_domain::id::DeviceId;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{DeviceStore, StateStore, StateWrite, StoreError, WriteError, retry};

/// Applies `change` to the state of a device, which is new if none is stored, and stores it.
/// Returns the state as stored. `change` is called once per attempt, on the state that was read for
/// it.
///
/// # Errors
///
/// A store failed, or every attempt conflicted.
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

/// Reads the state of one device; it is new if none is stored.
///
/// # Errors
///
/// The store failed.
pub async fn read_state<S: StateStore>(
    states: &S,
    id: &DeviceId,
) -> Result<DeviceState, StoreError> {
    let mut found = states.get_many(std::slice::from_ref(id)).await?;
    Ok(found.remove(id).unwrap_or_else(|| DeviceState::new(id.clone())))
}

/// Stores one state. Returns it with its new version.
///
/// # Errors
///
/// The state conflicted, or the store failed.
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

/// Why a registry row was not updated.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// No device with this id is registered.
    #[error("not registered")]
    NotRegistered,
    /// The change was rejected.
    #[error("rejected: {0}")]
    Rejected(E),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Applies `change` to the registry row of a device and stores it. Returns the row as stored,
/// except for its revision. `change` is called once per attempt, on the row that was read for it.
///
/// # Errors
///
/// See [`UpdateError`]. Every attempt conflicted: [`UpdateError::Store`].
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

/// The error of an update that conflicted in every attempt.
pub fn version_conflict_error() -> StoreError {
    let reason = format!("{} attempts conflicted", retry::MAX_ATTEMPTS);
    StoreError::conflict("updating a device", reason)
}
