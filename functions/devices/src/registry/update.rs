use meter_core::device::Device;
use meter_core::http::body;
use meter_core::http::{Answer, Failure, Problem, Request};
use meter_core::id::DeviceId;
use meter_core::store::{DeviceStore, StateStore, WriteError};
use meter_core::time::Timestamp;
use meter_core::{lock, retry};

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

/// Changes a row of the registry under its revision; who loses reads and decides again.
pub(crate) async fn change<D: DeviceStore>(
    registry: &D,
    id: &DeviceId,
    now: Timestamp,
    change: impl Fn(&mut Device) -> Result<(), Problem> + Sync,
) -> Result<Device, Failure> {
    for attempt in 0..retry::ATTEMPTS {
        let before = registry.get(id).await?.ok_or_else(no_device)?;
        let mut after = before.clone();
        change(&mut after)?;
        after.updated_at = now.max(before.updated_at);
        match registry.update(&before, &after).await {
            Ok(()) => return Ok(after),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(lock::contended().into())
}
