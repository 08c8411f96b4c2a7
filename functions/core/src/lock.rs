//! Changing a device's state under its optimistic lock: read, decide, write; whoever loses reads and
//! decides again, and never overwrites.

use crate::id::DeviceId;
use crate::retry;
use crate::state::DeviceState;
use crate::store::{StateStore, StateWrite, StoreError, WriteError};

/// Applies `change` to the state of a device (a new one, if it was never heard) and stores it; returns
/// the state as stored. `change` runs once an attempt, each time on a fresh read.
pub async fn change_state<S: StateStore>(
    states: &S,
    id: &DeviceId,
    change: impl Fn(&mut DeviceState) + Send + Sync,
) -> Result<DeviceState, StoreError> {
    for attempt in 0..retry::ATTEMPTS {
        let mut state = read_state(states, id).await?;
        let connection_before = state.presence.connection;
        change(&mut state);
        match save(states, StateWrite { state, connection_before }).await {
            Ok(state) => return Ok(state),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    Err(contended())
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
pub async fn save<S: StateStore>(states: &S, write: StateWrite) -> Result<DeviceState, WriteError> {
    let answers = states.save_many(std::slice::from_ref(&write)).await;
    answers.into_iter().next().unwrap_or(Err(WriteError::Conflict))?;
    let mut state = write.state;
    state.version += 1;
    Ok(state)
}

/// What to say when the retries for a lock have ended.
pub fn contended() -> StoreError {
    StoreError::Unavailable {
        operation: "the lock of a device's state",
        source: format!("lost {} times in a row", retry::ATTEMPTS).into(),
    }
}
