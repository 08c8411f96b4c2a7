//! The devices that a new system contains, registered with the REST API.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// The device of the examples in README.md. It is registered and not simulated, so its data is what
/// its user publishes.
pub const EXAMPLE_DEVICE: &str = "dc-meter-001";

/// Registers the example device and the first simulated devices. Existing devices do not change.
pub(crate) async fn register(http: &reqwest::Client, rest_url: &str) -> Result<()> {
    for device in devices() {
        let response = http
            .post(format!("{rest_url}/api/devices"))
            .json(&device)
            .send()
            .await
            .context("cannot register the sample devices")?;
        let status = response.status();
        if !status.is_success() && status != reqwest::StatusCode::CONFLICT {
            let text = response.text().await.unwrap_or_default();
            bail!("cannot register {}: {status} {text}", device["device_id"]);
        }
    }
    Ok(())
}

fn devices() -> [Value; 4] {
    let device = |id: &str, name: &str, device_type: &str, location: &str, metadata: Value| {
        json!({"device_id": id, "device_name": name, "device_type": device_type,
            "location": location, "metadata": metadata})
    };
    let simulated = |coach: u32, system: &str| json!({"simulated": true, "coach": coach, "traction_system": system});
    let (dc, ac) = ("power_meter_dc", "power_meter_ac");
    [
        device(EXAMPLE_DEVICE, "Example meter", dc, "Workbench", json!({"owner": "example"})),
        device("sim-dc-001", "DC meter of coach 1", dc, "Depot 1", simulated(1, "DC 1.5 kV")),
        device("sim-dc-002", "DC meter of coach 2", dc, "Depot 1", simulated(2, "DC 3 kV")),
        device("sim-ac-001", "AC meter of coach 3", ac, "Depot 2", simulated(3, "AC 15 kV")),
    ]
}

#[cfg(test)]
mod tests {
    use simulator::fleet::default_fleet;

    use super::*;

    #[test]
    fn seeds_are_the_example_device_and_the_first_simulated_devices() {
        let seeds = devices().map(|device| device["device_id"].as_str().unwrap().to_owned());
        let simulated = default_fleet(3).into_iter().map(|member| member.device_id);
        let expected: Vec<_> =
            std::iter::once(EXAMPLE_DEVICE.to_owned()).chain(simulated).collect();
        assert_eq!(seeds.to_vec(), expected);
    }
}
