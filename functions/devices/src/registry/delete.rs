use meter_domain::id::DeviceId;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_http::{ApiError, Request, Response, StatusCode};
use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_service::optimistic_update;
use meter_store::retry;
use meter_store::{DeviceStore, StateStore, Stores, WriteError};
use serde_json::json;

use crate::{device_not_found, require_device_id};

/// Rounds of the sweep that a client waits for: most devices are swept in one.
const MAX_CLEANUP_ROUNDS: usize = 5;

/// Removes a device with its alerts, commands and configuration and, with `purge=true`, with all that it ever said.
/// First a tombstone, so that nothing new hangs itself on the device; then the sweep, which the watchdog goes
/// on with.
pub(crate) async fn delete<S: Stores>(
    stores: &S,
    policy: &DevicePolicy,
    request: &Request,
) -> Result<Response, ApiError> {
    let id = require_device_id(request)?;
    let purge = request.query.one_of("purge", |word| word.parse().ok(), "true, false")?;
    let purge = purge.unwrap_or(false);
    mark_deleted(stores.devices(), stores.states(), &id, purge, request.now, policy).await?;
    for _ in 0..if purge { 1 } else { MAX_CLEANUP_ROUNDS } {
        if clean_up_device(stores, &id).await? == CleanupStatus::Done {
            break;
        }
    }
    if purge {
        let message = "Device deleted; what it said is being removed";
        return Response::json(StatusCode::ACCEPTED, &json!({"message": message}));
    }
    Response::ok(&json!({"message": "Device deleted successfully"}))
}

/// Leaves a tombstone, if none is there: a delete that ended half way is finished by asking again.
async fn mark_deleted<D, S>(
    registry: &D,
    states: &S,
    id: &DeviceId,
    purge: bool,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), ApiError>
where
    D: DeviceStore,
    S: StateStore,
{
    for attempt in 0..retry::MAX_ATTEMPTS {
        let Some(device) = registry.get(id).await? else {
            let has_tombstone = registry.has_tombstone(id).await?;
            if purge {
                return purge_unregistered(states, id, has_tombstone, now, policy).await;
            }
            return if has_tombstone { Ok(()) } else { Err(device_not_found().into()) };
        };
        let mut state = optimistic_update::read_state(states, id).await?;
        state.mark_deleted(now, purge, policy);
        match registry.create_tombstone(&device, &state).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(optimistic_update::version_conflict_error().into())
}

/// What was said by a device that is deleted already, or that was never registered, can be removed as well.
async fn purge_unregistered<S: StateStore>(
    states: &S,
    id: &DeviceId,
    has_tombstone: bool,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), ApiError> {
    let has_state = optimistic_update::read_state(states, id).await?.version > 0;
    if !has_tombstone && !has_state {
        return Err(device_not_found().into());
    }
    optimistic_update::update_state(states, id, |state| state.request_purge(now, policy)).await?;
    Ok(())
}
