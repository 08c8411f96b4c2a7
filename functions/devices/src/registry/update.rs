use meter_domain::device::Device;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_http::body;
use meter_http::{ApiError, Problem, Request, Response};
use meter_service::optimistic_update::{self, UpdateError};
use meter_store::{DeviceStore, StateStore};

use super::{View, fields};
use crate::{device_not_found, require_device_id};

/// Changes what is given of a device.
pub(crate) async fn update<D, S>(
    registry: &D,
    states: &S,
    request: &Request,
) -> Result<Response, ApiError>
where
    D: DeviceStore,
    S: StateStore,
{
    let id = require_device_id(request)?;
    let body = body::parse_object(request)?;
    let device =
        change(registry, &id, request.now, |device| fields::apply_update(device, &body)).await?;
    let state = optimistic_update::read_state(states, &id).await?;
    Ok(Response::ok(&View::new(device, Some(&state)))?.with_etag())
}

/// Changes a row of the registry.
pub(crate) async fn change<D: DeviceStore>(
    registry: &D,
    id: &DeviceId,
    now: Timestamp,
    change: impl Fn(&mut Device) -> Result<(), Problem> + Send + Sync,
) -> Result<Device, ApiError> {
    optimistic_update::update_device(registry, id, now, change).await.map_err(|unchanged| {
        match unchanged {
            UpdateError::NotRegistered => device_not_found().into(),
            UpdateError::Rejected(problem) => problem.into(),
            UpdateError::Store(error) => error.into(),
        }
    })
}
