use axum::Json;
use axum::extract::State;
use meter_domain::id::DeviceId;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_http::extract::{DevicePath, ReceivedAt};
use meter_http::fields::{Fields, FromFields};
use meter_http::page::ValidQuery;
use meter_http::{ApiError, Problem, StatusCode};
use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_service::optimistic_update;
use meter_store::retry;
use meter_store::{DeviceStore, StateStore, Stores, WriteError};
use serde_json::{Value, json};

use crate::{Devices, device_not_found};

/// The most rounds of the cleanup that a client waits for. Most devices need one.
const MAX_CLEANUP_ROUNDS: usize = 5;

/// Whether the messages of the device are removed as well.
#[derive(Debug)]
pub(crate) struct Purge(bool);

impl FromFields for Purge {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        let purge = fields.one_of("purge", |word| word.parse().ok(), "true, false")?;
        Ok(Self(purge.unwrap_or(false)))
    }
}

/// Removes a device with its alerts, commands and configuration and, with `purge=true`, with its
/// messages.
///
/// The tombstone comes first, so that no new item refers to the device; then the cleanup, which the
/// watchdog continues.
pub(crate) async fn delete<S: Stores>(
    State(Devices { stores, policy, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
    ValidQuery(Purge(purge)): ValidQuery<Purge>,
    ReceivedAt(now): ReceivedAt,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    mark_deleted(stores.devices(), stores.states(), &id, purge, now, &policy).await?;
    for _ in 0..if purge { 1 } else { MAX_CLEANUP_ROUNDS } {
        if clean_up_device(&stores, &id).await? == CleanupStatus::Done {
            break;
        }
    }
    Ok(match purge {
        true => {
            let message = "Device deleted; its messages are being removed";
            (StatusCode::ACCEPTED, Json(json!({"message": message})))
        }
        false => (StatusCode::OK, Json(json!({"message": "Device deleted successfully"}))),
    })
}

/// Writes a tombstone, unless there is one: a second request finishes a deletion that failed half
/// way.
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

/// Requests the purge of a device that is deleted already, or was never registered.
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
