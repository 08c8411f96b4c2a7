use axum::extract::State;
use meter_domain::device::Device;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_http::conditional::Tagged;
use meter_http::extract::{DevicePath, JsonObject, ReceivedAt};
use meter_http::{ApiError, Problem};
use meter_service::optimistic_update::{self, UpdateError};
use meter_store::{DeviceStore, Stores};

use super::{View, fields};
use crate::{Devices, device_not_found};

/// Changes the given fields of a device.
pub(crate) async fn update<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
    ReceivedAt(now): ReceivedAt,
    JsonObject(body): JsonObject,
) -> Result<Tagged<View>, ApiError> {
    let apply = |device: &mut Device| fields::apply_update(device, &body);
    let device = change(stores.devices(), &id, now, apply).await?;
    let state = optimistic_update::read_state(stores.states(), &id).await?;
    Ok(Tagged(View::new(device, Some(&state))))
}

/// Changes a registered device.
///
/// # Errors
/// 404 if the device is not registered, otherwise the problem of `change`.
pub(crate) async fn change<D: DeviceStore>(
    registry: &D,
    id: &DeviceId,
    now: Timestamp,
    change: impl Fn(&mut Device) -> Result<(), Problem> + Send + Sync,
) -> Result<Device, ApiError> {
    optimistic_update::update_device(registry, id, now, change).await.map_err(|error| match error {
        UpdateError::NotRegistered => device_not_found().into(),
        UpdateError::Rejected(problem) => problem.into(),
        UpdateError::Store(error) => error.into(),
    })
}
