use meter_http::{ApiError, Request, Response};
use meter_service::optimistic_update;
use meter_store::{DeviceStore, StateStore};

use super::View;
use crate::{device_not_found, require_device_id};

/// A device.
pub(crate) async fn get<D, S>(
    registry: &D,
    states: &S,
    request: &Request,
) -> Result<Response, ApiError>
where
    D: DeviceStore,
    S: StateStore,
{
    let id = require_device_id(request)?;
    let device = registry.get(&id).await?.ok_or_else(device_not_found)?;
    let state = optimistic_update::read_state(states, &id).await?;
    Ok(Response::ok(&View::new(device, Some(&state)))?.with_etag())
}
