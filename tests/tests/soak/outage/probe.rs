//! The probe of an outage: a device with commands, an alert and few messages.

use anyhow::{Result, bail, ensure};
use blackbox::device::Device;
use blackbox::expect::{expect_eq, expect_fields, expect_len};
use blackbox::system::System;
use blackbox::wait::LIMIT;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::PAUSE;

/// Messages of a probe in its outage, and the number of telemetry messages among them.
pub(super) const MESSAGES_PER_OUTAGE: usize = 2;
pub(super) const TELEMETRY_PER_OUTAGE: usize = 1;

/// A device with two commands, one before and one during the outage, and with a temperature above
/// the threshold until the verification.
pub(super) struct ProbeDevice {
    id: String,
    device: Device,
    /// The sequence number of the next message.
    seq: u32,
    /// The id of the command that was created before the outage.
    first_command_id: Value,
}

/// Creates the second command, with retries and an idempotency key as a client does without a
/// response.
pub(super) async fn send_second_command(system: &System, id: &str) -> Result<()> {
    let path = format!("/api/devices/{id}/commands");
    let deadline = Instant::now() + LIMIT;
    loop {
        let request = system
            .request(Method::POST, &path)
            .header("idempotency-key", "second-command")
            .json(&json!({"cmd": "request_status"}));
        match system.execute(request).await {
            Ok(answer) if answer.status.is_success() => return Ok(()),
            Ok(answer) if answer.status.is_client_error() => {
                bail!("POST {path}: expected success, actual {answer}")
            }
            Ok(response) => ensure!(Instant::now() < deadline, "POST {path}: {response}"),
            Err(error) => ensure!(Instant::now() < deadline, "POST {path}: {error:#}"),
        }
        sleep(PAUSE).await;
    }
}

impl ProbeDevice {
    /// Registers a probe and sends it a command, which it does not acknowledge yet.
    pub(super) async fn start(system: &System, id: &str) -> Result<Self> {
        system.register(id).await?;
        let mut device = Device::connect(system.mqtt_port(), id).await?;
        device.subscribe(&format!("iot/{id}/command")).await?;
        let command = json!({"cmd": "update_config", "params": {"send_interval_s": 20}});
        system.post(&format!("/api/devices/{id}/commands"), command).await?;
        let mut probe = Self { id: id.to_owned(), device, seq: 0, first_command_id: Value::Null };
        probe.first_command_id = probe.next_command("update_config").await?;
        Ok(probe)
    }

    /// Acknowledges the first command and publishes a temperature above the threshold.
    pub(super) async fn publish_during_outage(&mut self) -> Result<()> {
        let cmd_id = self.first_command_id.clone();
        self.ack(cmd_id).await?;
        self.publish_temperature(95).await
    }

    /// Acknowledges the command that was created during the outage.
    pub(super) async fn ack_second_command(&mut self) -> Result<()> {
        let cmd_id = self.next_command("request_status").await?;
        self.ack(cmd_id).await
    }

    /// Verifies commands, configuration and alert, then the end of the alert and all messages.
    pub(super) async fn verify(&mut self, system: &System) -> Result<()> {
        let id = self.id.clone();
        let commands = system.list(&format!("/api/devices/{id}/commands")).await?;
        let results: Vec<_> =
            commands.iter().map(|command| [&command["cmd"], &command["status"]]).collect();
        let expected = [["request_status", "accepted"], ["update_config", "accepted"]];
        expect_eq(&format!("commands of {id}"), &results, &expected)?;
        let config = system.get(&format!("/api/devices/{id}/config")).await?;
        expect_eq(&format!("config of {id}"), &config, &json!({"send_interval_s": 20}))?;
        self.expect_alert(system, "open").await?;

        self.publish_temperature(80).await?;
        let this = &*self;
        system.eventually("the end of the alert", || this.expect_alert(system, "resolved")).await?;
        let path = format!("/api/devices/{id}/metrics?metric=temperature&start=-1d");
        let points = system.list(&path).await?;
        let values: Vec<_> = points.iter().map(|point| point["value"].as_f64()).collect();
        expect_eq(&format!("GET {path}"), &values, &[95.0, 80.0])?;
        let archived = system.list(&format!("/api/devices/{id}/raw-data")).await?;
        expect_len(&format!("raw data of {id}"), &archived, self.seq as usize)
    }

    /// Verifies that the rule has raised one alert, which has the state.
    async fn expect_alert(&self, system: &System, state: &'static str) -> Result<()> {
        let path = format!("/api/devices/{}/alerts", self.id);
        let mut alerts = system.list(&path).await?;
        alerts.retain(|alert| alert["alert_type"] == "threshold");
        expect_len(&format!("GET {path}"), &alerts, 1)?;
        expect_fields(&format!("GET {path}"), &alerts[0], [("/state", json!(state))])
    }

    async fn ack(&mut self, cmd_id: Value) -> Result<()> {
        self.publish("command/ack", "command_ack", json!({"cmd_id": cmd_id, "result": "accepted"}))
            .await
    }

    async fn publish_temperature(&mut self, celsius: u32) -> Result<()> {
        let measurements = json!([{"type": "temperature", "val": celsius, "unit": "celsius"}]);
        self.publish("telemetry", "telemetry", json!({"measurements": measurements})).await
    }

    async fn publish(&mut self, suffix: &str, kind: &str, mut message: Value) -> Result<()> {
        for (name, value) in [
            ("v", json!(2)),
            ("device_id", json!(self.id)),
            ("ts", json!(jiff::Timestamp::now())),
            ("seq", json!(self.seq)),
            ("boot", json!("b")),
            ("msg_type", json!(kind)),
        ] {
            message[name] = value;
        }
        self.seq += 1;
        self.device.publish(&format!("iot/{}/{suffix}", self.id), message.to_string()).await
    }

    /// The id of the next command of a kind. Unacknowledged commands may be published again before.
    async fn next_command(&mut self, kind: &str) -> Result<Value> {
        loop {
            let command: Value =
                serde_json::from_slice(&self.device.next_message().await?.payload)?;
            if command["cmd"] == kind {
                return Ok(command["cmd_id"].clone());
            }
        }
    }
}
