use meter_domain::id::DeviceId;
use meter_domain::state::Rules;
use meter_domain::time::Timestamp;
use meter_http::{Answer, Failure, Request, StatusCode};
use meter_service::lock;
use meter_service::outbox::Outbox;
use meter_service::sweep::{Progress, sweep};
use meter_store::retry;
use meter_store::{
    AlertStore, Archive, ArchiveKeys, CommandPublisher, CommandStore, DeviceStore, MessageStore,
    RollupStore, StateStore, WriteError,
};
use serde_json::json;

use crate::{known, no_device};

/// Rounds of the sweep that a client waits for: most devices are swept in one.
const ROUNDS: usize = 5;

/// Removes a device with its alerts, commands and configuration and, with `purge=true`, with all that it ever said.
/// First a tombstone, so that nothing new hangs itself on the device; then the sweep, which the watchdog goes
/// on with.
pub(crate) async fn delete<S, A, C, D, P, M, O>(
    stores: &Outbox<S, A, C, D, P>,
    (messages, archive): (&M, &O),
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
    M: MessageStore + RollupStore,
    O: Archive + ArchiveKeys,
{
    let id = known(request)?;
    let purge = request.query.word("purge", |word| word.parse().ok(), "true, false")?;
    let purge = purge.unwrap_or(false);
    bury(&stores.registry, &stores.states, &id, purge, request.now, rules).await?;
    for _ in 0..if purge { 1 } else { ROUNDS } {
        if sweep(stores, messages, archive, &id).await? == Progress::Done {
            break;
        }
    }
    if purge {
        let message = "Device deleted; what it said is being removed";
        return Answer::json(StatusCode::ACCEPTED, &json!({"message": message}));
    }
    Answer::ok(&json!({"message": "Device deleted successfully"}))
}

/// Leaves a tombstone, if none is there: a delete that ended half way is finished by asking again.
async fn bury<D, S>(
    registry: &D,
    states: &S,
    id: &DeviceId,
    purge: bool,
    now: Timestamp,
    rules: &Rules,
) -> Result<(), Failure>
where
    D: DeviceStore,
    S: StateStore,
{
    for attempt in 0..retry::ATTEMPTS {
        let Some(device) = registry.get(id).await? else {
            let is_buried = registry.is_buried(id).await?;
            if purge {
                return purge_unregistered(states, id, is_buried, now, rules).await;
            }
            return if is_buried { Ok(()) } else { Err(no_device().into()) };
        };
        let mut state = lock::read_state(states, id).await?;
        state.bury(now, purge, rules);
        match registry.bury(&device, &state).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(lock::contended().into())
}

/// What was said by a device that is deleted already, or that was never registered, can be removed as well.
async fn purge_unregistered<S: StateStore>(
    states: &S,
    id: &DeviceId,
    is_buried: bool,
    now: Timestamp,
    rules: &Rules,
) -> Result<(), Failure> {
    let was_heard = lock::read_state(states, id).await?.version > 0;
    if !is_buried && !was_heard {
        return Err(no_device().into());
    }
    lock::change_state(states, id, |state| state.purge(now, rules)).await?;
    Ok(())
}
