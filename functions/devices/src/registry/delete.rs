use meter_core::http::{Answer, Failure, Request};
use meter_core::id::DeviceId;
use meter_core::outbox::Outbox;
use meter_core::state::Rules;
use meter_core::store::{
    AlertStore, CommandPublisher, CommandStore, DeviceStore, StateStore, WriteError,
};
use meter_core::sweep::sweep;
use meter_core::time::Timestamp;
use meter_core::{lock, retry};
use serde_json::json;

use crate::{known, no_device};

/// Removes a device with its alerts, commands and configuration. First a tombstone, so that nothing new
/// hangs itself on the device; then the sweep, which the watchdog goes on with if this ends early.
pub(crate) async fn delete<S, A, C, D, P>(
    stores: &Outbox<S, A, C, D, P>,
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
{
    let id = known(request)?;
    bury(&stores.registry, &stores.states, &id, request.now, rules).await?;
    sweep(stores, &id).await?;
    Answer::ok(&json!({"message": "Device deleted successfully"}))
}

/// Leaves a tombstone, if none is there: a delete that ended half way is finished by asking again.
async fn bury<D, S>(
    registry: &D,
    states: &S,
    id: &DeviceId,
    now: Timestamp,
    rules: &Rules,
) -> Result<(), Failure>
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
        let mut state = lock::read_state(states, id).await?;
        state.bury(now, false, rules);
        match registry.bury(&device, &state).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(lock::contended().into())
}
