use axum::extract::State;
use meter_http::ApiError;
use meter_http::conditional::Tagged;
use meter_http::extract::DevicePath;
use meter_service::optimistic_update;
use meter_store::{DeviceStore, Stores};

use super::View;
use crate::{Devices, device_not_found};

/// A device.
pub(crate) async fn get<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
) -> Result<Tagged<View>, ApiError> {
    let device = stores.devices().get(&id).await?.ok_or_else(device_not_found)?;
    let state = optimistic_update::read_state(stores.states(), &id).await?;
    Ok(Tagged(View::new(device, Some(&state))))
}
