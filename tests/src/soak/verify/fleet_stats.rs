//! The statistics of the fleet.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::super::rest::RestApi;

/// The statistics of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::soak) struct FleetStats {
    pub(super) devices: i64,
    pub(super) by_connection: BTreeMap<String, i64>,
    pub(super) unacknowledged: i64,
}

impl FleetStats {
    pub(in crate::soak) async fn read(api: &mut RestApi) -> Result<Self> {
        let stats = api.get("/api/stats").await?;
        let count = |value: &Value| value.as_i64().unwrap_or(-1);
        let by_connection = stats["device_by_connection"].as_array().cloned().unwrap_or_default();
        let by_connection = by_connection.iter().map(|row| {
            (row["status"].as_str().unwrap_or_default().to_owned(), count(&row["count"]))
        });
        Ok(Self {
            devices: count(&stats["total_devices"]),
            by_connection: by_connection.collect(),
            unacknowledged: count(&stats["unacknowledged_alerts"]),
        })
    }

    /// The changes since `before`, without connection states whose count is unchanged.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut by_connection = self.by_connection.clone();
        for (connection, count) in &before.by_connection {
            *by_connection.entry(connection.clone()).or_default() -= count;
        }
        by_connection.retain(|_, count| *count != 0);
        Self {
            devices: self.devices - before.devices,
            by_connection,
            unacknowledged: self.unacknowledged - before.unacknowledged,
        }
    }
}
