//! Alert rules over REST, samples over MQTT, and the resulting alerts and notifications.

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::{expect_eq, expect_fields};
use blackbox::system::System;
use blackbox::wait::{NO_PROGRESS, Progress};
use devstack::{Notifications, Options};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The values of a meter at one instant.
#[derive(Clone, Copy)]
struct MeterSample {
    temperature: f64,
    voltage_dc: f64,
    current_dc: f64,
}

/// Two devices with the same values and a connection each. One of the rules applies only to the
/// first.
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

    /// Publishes a sample of each device, a second after the last one, and waits until it is stored
    /// and evaluated. Returns its time.
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
                .eventually("the latest sample", || async {
                    let latest = system.list(&path).await?;
                    let power = latest.iter().find(|point| point["metric"] == "active_power");
                    let power = power.context("there is no active_power")?;
                    let expected =
                        [("/time", json!(at)), ("/value", json!(voltage_dc * current_dc))];
                    expect_fields(&format!("GET {path}"), power, expected)
                })
                .await?;
        }
        self.sample_count += 1;
        Ok(at)
    }
}

/// Alerts as sorted tuples of device, rule and state.
fn alert_keys(alerts: &[Value]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut alert_keys: Vec<_> = alerts
        .iter()
        .map(|a| (text(&a["device_id"]), text(&a["rule_id"]), text(&a["state"])))
        .collect();
    alert_keys.sort();
    alert_keys
}

/// Waits until the alerts of rules are the expected ones.
async fn wait_for_alerts(
    system: &System,
    expected: &[(&str, &str)],
    state: &str,
) -> Result<Vec<Value>> {
    let owned = |(device, rule): &(&str, &str)| {
        ((*device).to_owned(), (*rule).to_owned(), state.to_owned())
    };
    let mut expected: Vec<_> = expected.iter().map(owned).collect();
    expected.sort();
    system
        .eventually(&format!("alerts {expected:?}"), || async {
            let mut alerts = system.list("/api/alerts").await?;
            alerts.retain(|alert| !alert["rule_id"].is_null());
            expect_eq("GET /api/alerts", &alert_keys(&alerts), &expected)?;
            Ok(alerts)
        })
        .await
}

/// Waits for `count` further notifications; returns sorted tuples of event, device and alert type.
async fn wait_for_notifications(
    from: &Notifications,
    count: usize,
) -> Result<Vec<(String, String, String)>> {
    let mut notifications = Vec::new();
    let mut progress = Progress::new(NO_PROGRESS);
    while !progress.is_stalled(notifications.len()) {
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
    anyhow::bail!("expected {count} notifications, actual {notifications:?}")
}

#[tokio::test]
async fn alerts_stay_open_until_the_clear_level() -> Result<()> {
    // Without a hold-down, and without notifications of offline alerts.
    let settings = [("ALERT_HOLD_DOWN_S", "0"), ("NOTIFY_DEVICE_ALERTS", "false")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let system = System::start_with(Options { settings, ..Options::default() }).await?;
    let endpoint_port = system.stack.ports().endpoint;
    let notifications = Notifications::subscribe(system.stack.data(), endpoint_port).await?;
    let rule_id = async |rule: Value| {
        let created = system.post("/api/alert-rules", rule).await?;
        created["rule_id"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no rule_id: {created}"))
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
        let (severity, text) = match is_hot {
            true => ("critical", "temperature is 95"),
            false => ("warning", "active_power is 2250000"),
        };
        let device = alert["device_id"].as_str().unwrap_or_default();
        let expected = [
            ("/severity", json!(severity)),
            ("/alert_type", json!("threshold")),
            ("/message", json!(format!("{device}: {text}"))),
            ("/created_at", json!(rose)),
        ];
        expect_fields("GET /api/alerts", alert, expected)?;
    }
    let of_rules =
        ["loaded", "loaded", "other"].map(|device| (device.to_owned(), "threshold".to_owned()));
    let expect =
        |event: &str| of_rules.clone().map(|(device, kind)| (event.to_owned(), device, kind));
    expect_eq(
        "notifications",
        &wait_for_notifications(&notifications, 3).await?,
        &expect("opened"),
    )?;

    // The temperature is between clear level and threshold; the power, without a clear level, is
    // above its threshold.
    meters.publish_sample(&system, sample(86.0, 1_334.0)).await?;
    expect_eq("GET /api/alerts", &wait_for_alerts(&system, &all, "open").await?, &opened)?;

    let fell = meters.publish_sample(&system, sample(85.0, 1_333.0)).await?;
    let resolved = wait_for_alerts(&system, &all, "resolved").await?;
    for alert in &resolved {
        // Not resolved by the sample before.
        expect_fields("GET /api/alerts", alert, [("/resolved_at", json!(fell))])?;
        ensure!(opened.iter().any(|before| before["id"] == alert["id"]), "new alert {alert:#}");
    }
    expect_eq(
        "notifications",
        &wait_for_notifications(&notifications, 3).await?,
        &expect("resolved"),
    )?;
    ensure!(notifications.next().await?.is_empty(), "unexpected notification");
    notifications.unsubscribe().await;
    system.stack.stop().await;
    Ok(())
}
