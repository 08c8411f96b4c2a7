use meter_core::http::{Answer, Failure, Request};
use meter_core::id::DeviceId;
use meter_core::store::{
    AlertStore, CommandStore, DeviceStore, StateStore, StoreError, WriteError,
};
use meter_core::{lock, retry};
use serde_json::json;

use crate::{known, no_device};

/// Removes a device with its alerts, commands and configuration. First a tombstone, so that nothing new
/// hangs itself on the device; then the sweep, which whoever comes next goes on with if this ends early.
pub(crate) async fn delete<D, S, A, C>(
    registry: &D,
    states: &S,
    alerts: &A,
    commands: &C,
    request: &Request,
) -> Result<Answer, Failure>
where
    D: DeviceStore,
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
{
    let id = known(request)?;
    bury(registry, states, &id).await?;
    sweep(registry, alerts, commands, &id).await?;
    Answer::ok(&json!({"message": "Device deleted successfully"}))
}

/// Leaves a tombstone, if none is there: a delete that ended half way is finished by asking again.
async fn bury<D, S>(registry: &D, states: &S, id: &DeviceId) -> Result<(), Failure>
where
    D: DeviceStore,
    S: StateStore,
{
    for attempt in 0..retry::ATTEMPTS {
        let Some(device) = registry.get(id).await? else {
            return match registry.is_buried(id).await? {
                true => Ok(()),
                false => Err(no_device().into()),
            };
        };
        let state = lock::read_state(states, id).await?;
        match registry.bury(&device, &state).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(lock::contended().into())
}

/// Removes what hung on a buried device, then its tombstone.
pub(super) async fn sweep<D, A, C>(
    registry: &D,
    alerts: &A,
    commands: &C,
    id: &DeviceId,
) -> Result<(), StoreError>
where
    D: DeviceStore,
    A: AlertStore,
    C: CommandStore,
{
    while alerts.sweep(id).await? {}
    while commands.sweep(id).await? {}
    registry.forget(id).await
}
