use meter_domain::device::Device;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_http::body;
use meter_http::{Answer, Failure, Problem, Request};
use meter_service::lock::{self, Unchanged};
use meter_store::{DeviceStore, StateStore};

use super::{View, fields};
use crate::{known, no_device};

/// Changes what is given of a device.
pub(crate) async fn update<D, S>(
    registry: &D,
    states: &S,
    request: &Request,
) -> Result<Answer, Failure>
where
    D: DeviceStore,
    S: StateStore,
{
    let id = known(request)?;
    let body = body::object(request)?;
    let device =
        change(registry, &id, request.now, |device| fields::change_device(device, &body)).await?;
    let state = lock::read_state(states, &id).await?;
    Ok(Answer::ok(&View::new(device, Some(&state)))?.with_etag())
}

/// Changes a row of the registry.
pub(crate) async fn change<D: DeviceStore>(
    registry: &D,
    id: &DeviceId,
    now: Timestamp,
    change: impl Fn(&mut Device) -> Result<(), Problem> + Send + Sync,
) -> Result<Device, Failure> {
    lock::change_device(registry, id, now, change).await.map_err(|unchanged| match unchanged {
        Unchanged::NotRegistered => no_device().into(),
        Unchanged::Refused(problem) => problem.into(),
        Unchanged::Store(error) => error.into(),
    })
}
