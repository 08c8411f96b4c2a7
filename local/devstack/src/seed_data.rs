//! The sample devices, registered over the REST API as anybody would do it.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Registers those that are not yet; a second run finds them.
pub(crate) async fn register(http: &reqwest::Client, rest_url: &str) -> Result<()> {
    for device in devices() {
        let answer = http
            .post(format!("{rest_url}/api/devices"))
            .json(&device)
            .send()
            .await
            .context("cannot register the sample devices")?;
        let status = answer.status();
        if !status.is_success() && status != reqwest::StatusCode::CONFLICT {
            let text = answer.text().await.unwrap_or_default();
            bail!("cannot register {}: {status} {text}", device["device_id"]);
        }
    }
    Ok(())
}

fn devices() -> [Value; 3] {
    [
        ("dc-meter-001", "DC meter 1", "power_meter_dc"),
        ("dc-meter-002", "DC meter 2", "power_meter_dc"),
        ("ac-meter-001", "AC meter 1", "power_meter_ac"),
    ]
    .map(|(device_id, device_name, device_type)| {
        json!({"device_id": device_id, "device_name": device_name, "device_type": device_type})
    })
}
