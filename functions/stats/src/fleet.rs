use meter_http::{ApiError, Response};
use meter_store::{AlertStore, DeviceStore};
use serde::Serialize;

/// The fleet in numbers, as they are answered.
#[derive(Debug, Serialize)]
struct View {
    total_devices: u64,
    device_by_status: Vec<Count>,
    device_by_connection: Vec<Count>,
    unacknowledged_alerts: u64,
}

/// How many devices are in a status; a status without any is left out.
#[derive(Debug, Serialize)]
struct Count {
    status: &'static str,
    count: u64,
}

/// The fleet in numbers: a few reads, however large it is.
pub(crate) async fn stats<D, A>(registry: &D, alerts: &A) -> Result<Response, ApiError>
where
    D: DeviceStore,
    A: AlertStore,
{
    let (fleet, unacknowledged_alerts) =
        tokio::try_join!(registry.counts(), alerts.count_unacknowledged())?;
    Response::ok(&View {
        total_devices: fleet.by_status.values().sum(),
        device_by_status: counts(fleet.by_status.iter().map(|(s, n)| (s.as_str(), *n))),
        device_by_connection: counts(fleet.by_connection.iter().map(|(c, n)| (c.as_str(), *n))),
        unacknowledged_alerts,
    })
}

fn counts(all: impl Iterator<Item = (&'static str, u64)>) -> Vec<Count> {
    all.filter(|(_, count)| *count > 0).map(|(status, count)| Count { status, count }).collect()
}
