use meter_http::{Answer, Failure, Request};
use meter_service::lock;
use meter_store::{DeviceStore, StateStore};

use super::View;
use crate::{known, no_device};

/// A device.
pub(crate) async fn get<D, S>(
    registry: &D,
    states: &S,
    request: &Request,
) -> Result<Answer, Failure>
where
    D: DeviceStore,
    S: StateStore,
{
    let id = known(request)?;
    let device = registry.get(&id).await?.ok_or_else(no_device)?;
    let state = lock::read_state(states, &id).await?;
    Ok(Answer::ok(&View::new(device, Some(&state)))?.with_etag())
}
