//! Alert rules over REST, samples over MQTT, and what comes of both: alerts, and notices for whoever subscribes.

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use devstack::{Notifications, Options};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What a meter measures at one instant.
#[derive(Clone, Copy)]
struct MeterSample {
    temperature: f64,
    voltage_dc: f64,
    current_dc: f64,
}

/// Devices that measure the same, each with a connection of its own. Of the rules, one is for the first alone.
struct Meters {
    devices: [(&'static str, Device); 2],
    began: Timestamp,
    sample_count: i64,
}

impl Meters {
    async fn connect(system: &System) -> Result<Self> {
        for id in ["loaded", "other"] {
            system.register(id).await?;
        }
        let loaded = Device::connect(system.mqtt_port(), "loaded").await?;
        let other = Device::connect(system.mqtt_port(), "other").await?;
        let began = Timestamp::from_second(Timestamp::now().as_second() - 60)?;
        Ok(Self { devices: [("loaded", loaded), ("other", other)], began, sample_count: 0 })
    }

    /// They measure a second after the last time. When that was; returns when it is known of them, and so is judged.
    async fn publish_sample(&mut self, system: &System, sample: MeterSample) -> Result<Timestamp> {
        let MeterSample { temperature, voltage_dc, current_dc } = sample;
        let at = Timestamp::from_second(self.began.as_second() + self.sample_count)?;
        for (id, device) in &mut self.devices {
            let message = json!({"v": 2, "device_id": id, "ts": at.to_string(), "seq": self.sample_count, "boot": 1,
                "msg_type": "telemetry", "measurements": [
                    {"type": "temperature", "val": temperature, "unit": "celsius"},
                    {"type": "voltage_dc", "val": voltage_dc, "unit": "V"},
                    {"type": "current_dc", "val": current_dc, "unit": "A"}]});
            device.publish(&format!("iot/{id}/telemetry"), message.to_string()).await?;
            let path = format!("/api/devices/{id}/metrics/latest");
            system
                .eventually("the reading is known", || async {
                    let latest = system.list(&path).await?;
                    let known = latest.iter().find(|point| point["metric"] == "active_power");
                    let known = known.with_context(|| format!("no power in {latest:?}"))?;
                    ensure!(time(&known["time"])? == at, "{known}");
                    ensure!(known["value"] == voltage_dc * current_dc, "{known}");
                    Ok(())
                })
                .await?;
        }
        self.sample_count += 1;
        Ok(at)
    }
}

fn time(value: &Value) -> Result<Timestamp> {
    let text = value.as_str().with_context(|| format!("{value} is no time"))?;
    Ok(text.parse()?)
}

/// Alerts as (device, rule, state), sorted.
fn alert_keys(alerts: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut alert_keys: Vec<_> = alerts
        .iter()
        .map(|a| (text(&a["device_id"]), text(&a["rule_id"]), text(&a["state"])))
        .collect();
    alert_keys.sort();
    alert_keys
}

/// The alerts of rules, once they are these.
async fn wait_for_alerts(
    system: &System,
    expected: &[(&str, &str)],
    state: &str,
) -> Result<Vec<Value>> {
    let owned = |(device, rule): &(&str, &str)| {
        ((*device).to_owned(), (*rule).to_owned(), state.to_owned())
    };
    let mut wanted: Vec<_> = expected.iter().map(owned).collect();
    wanted.sort();
    system
        .eventually(&format!("alerts {wanted:?}"), || async {
            let mut alerts = system.list("/api/alerts").await?;
            alerts.retain(|alert| !alert["rule_id"].is_null());
            ensure!(alert_keys(&alerts) == wanted, "{alerts:?}");
            Ok(alerts)
        })
        .await
}

/// Waits for so many notices more; each is (event, device, alert type), sorted.
async fn wait_for_notifications(
    from: &Notifications,
    count: usize,
) -> Result<Vec<(String, String, String)>> {
    let mut notifications = Vec::new();
    for _ in 0..20 {
        for notification in from.next().await? {
            let document = notification.lines().last().unwrap_or_default();
            let document: Value = serde_json::from_str(document).context(notification.clone())?;
            let [event, device, kind] = ["event", "device_id", "alert_type"]
                .map(|name| document[name].as_str().unwrap_or_default().to_owned());
            notifications.push((event, device, kind));
        }
        if notifications.len() >= count {
            notifications.sort();
            return Ok(notifications);
        }
    }
    anyhow::bail!("only these notifications: {notifications:?}")
}

#[tokio::test]
async fn rules_open_alerts_that_last_until_the_clear_level_also_on_what_is_derived() -> Result<()> {
    // Ends are told at once; and only of rules, since this is no test of presence.
    let settings = [("ALERT_HOLD_DOWN_S", "0"), ("NOTIFY_DEVICE_ALERTS", "false")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let system = System::start_with(Options { settings, ..Options::default() }).await?;
    let endpoint_port = system.stack.ports().endpoint;
    let told = Notifications::subscribe(system.stack.data(), endpoint_port).await?;
    let rule_id = async |rule: Value| {
        let made = system.post("/api/alert-rules", rule).await?;
        made["rule_id"].as_str().map(str::to_owned).with_context(|| format!("{made}"))
    };
    let hot = rule_id(
        json!({"name": "Overheated", "metric": "temperature", "operator": ">", "threshold": 90,
        "clear": 85, "severity": "critical", "message": "{device_id}: {metric} is {value}"}),
    )
    .await?;
    let overload = rule_id(
        json!({"name": "Overload", "scope": {"device_id": "loaded"}, "metric": "active_power",
        "operator": ">=", "threshold": 2_000_000, "message": "{device_id}: {metric} is {value}"}),
    )
    .await?;
    let mut meters = Meters::connect(&system).await?;
    let sample =
        |temperature, current_dc| MeterSample { temperature, voltage_dc: 1_500.0, current_dc };

    meters.publish_sample(&system, sample(89.0, 1_000.0)).await?;
    wait_for_alerts(&system, &[], "open").await?;

    let rose = meters.publish_sample(&system, sample(95.0, 1_500.0)).await?;
    let all = [("loaded", &*hot), ("other", &*hot), ("loaded", &*overload)];
    let opened = wait_for_alerts(&system, &all, "open").await?;
    for alert in &opened {
        let is_hot = alert["rule_id"] == *hot;
        let (severity, says) = match is_hot {
            true => ("critical", "temperature is 95"),
            false => ("warning", "active_power is 2250000"),
        };
        ensure!(alert["severity"] == severity && alert["alert_type"] == "threshold", "{alert}");
        let message = format!("{}: {says}", alert["device_id"].as_str().unwrap_or_default());
        ensure!(alert["message"] == message && time(&alert["created_at"])? == rose, "{alert}");
    }
    let of_rules =
        ["loaded", "loaded", "other"].map(|device| (device.to_owned(), "threshold".to_owned()));
    let expect =
        |event: &str| of_rules.clone().map(|(device, kind)| (event.to_owned(), device, kind));
    ensure!(wait_for_notifications(&told, 3).await? == expect("opened"));

    // Below the threshold and above the clear level; the power, which has no other level, is above its threshold.
    meters.publish_sample(&system, sample(86.0, 1_334.0)).await?;
    ensure!(wait_for_alerts(&system, &all, "open").await? == opened, "hysteresis");

    let fell = meters.publish_sample(&system, sample(85.0, 1_333.0)).await?;
    let resolved = wait_for_alerts(&system, &all, "resolved").await?;
    for alert in &resolved {
        // And so not with the reading before.
        ensure!(time(&alert["resolved_at"])? == fell, "{alert}");
        ensure!(opened.iter().any(|before| before["id"] == alert["id"]), "{alert} is another one");
    }
    ensure!(wait_for_notifications(&told, 3).await? == expect("resolved"));
    ensure!(told.next().await?.is_empty(), "somebody is told twice");
    told.unsubscribe().await;
    system.stack.stop().await;
    Ok(())
}
