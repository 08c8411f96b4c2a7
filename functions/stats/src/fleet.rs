use axum::Json;
use axum::extract::State;
use meter_http::ApiError;
use meter_store::{AlertStore, DeviceStore, Probe, Stores};
use serde::Serialize;

use crate::Stats;

/// The numbers of devices and alerts.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    total_devices: u64,
    device_by_status: Vec<Count>,
    device_by_connection: Vec<Count>,
    unacknowledged_alerts: u64,
}

/// The number of devices in a status; a status without devices is left out.
#[derive(Debug, Serialize)]
struct Count {
    status: &'static str,
    count: u64,
}

/// The fleet in numbers: a few reads for a fleet of any size.
pub(crate) async fn stats<S: Stores, P: Probe>(
    State(Stats { stores, .. }): State<Stats<S, P>>,
) -> Result<Json<View>, ApiError> {
    let (fleet, unacknowledged_alerts) =
        tokio::try_join!(stores.devices().counts(), stores.alerts().count_unacknowledged())?;
    Ok(Json(View {
        total_devices: fleet.by_status.values().sum(),
        device_by_status: counts(fleet.by_status.iter().map(|(s, n)| (s.as_str(), *n))),
        device_by_connection: counts(fleet.by_connection.iter().map(|(c, n)| (c.as_str(), *n))),
        unacknowledged_alerts,
    }))
}

fn counts(all: impl Iterator<Item = (&'static str, u64)>) -> Vec<Count> {
    all.filter(|(_, count)| *count > 0).map(|(status, count)| Count { status, count }).collect()
}
