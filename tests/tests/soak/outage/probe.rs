//! A device of one trouble: to it, by it and about it is said what has to get through.

use anyhow::{Result, bail, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use blackbox::wait::LIMIT;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::PAUSE;

/// Messages that a probe says in its trouble, and those among them that are measurements.
pub(super) const MESSAGES_PER_OUTAGE: usize = 2;
pub(super) const TELEMETRY_PER_OUTAGE: usize = 1;

/// A device that gets two commands, one before the trouble and one in it, and is too hot from its trouble on to the end.
pub(super) struct ProbeDevice {
    id: String,
    device: Device,
    /// Of its next message.
    seq: u32,
    /// The command that it got before.
    first_command_id: Value,
}

/// Gives the probe its second command, as a client does that gets no answer: with the same key, until it is taken.
pub(super) async fn send_second_command(system: &System, id: &str) -> Result<()> {
    let path = format!("/api/devices/{id}/commands");
    let deadline = Instant::now() + LIMIT;
    loop {
        let request = system
            .request(Method::POST, &path)
            .header("idempotency-key", "the-order")
            .json(&json!({"cmd": "request_status"}));
        match system.execute(request).await {
            Ok(answer) if answer.status.is_success() => return Ok(()),
            Ok(answer) if answer.status.is_client_error() => {
                bail!("POST {path}: {} {}", answer.status, answer.text)
            }
            Ok(response) => ensure!(Instant::now() < deadline, "POST {path}: {response}"),
            Err(error) => ensure!(Instant::now() < deadline, "POST {path}: {error:#}"),
        }
        sleep(PAUSE).await;
    }
}

impl ProbeDevice {
    /// One that is registered, and has got a command that it has not answered.
    pub(super) async fn start(system: &System, id: &str) -> Result<Self> {
        system.register(id).await?;
        let mut device = Device::connect(system.mqtt_port(), id).await?;
        device.subscribe(&format!("iot/{id}/command")).await?;
        let order = json!({"cmd": "update_config", "params": {"send_interval_s": 20}});
        system.post(&format!("/api/devices/{id}/commands"), order).await?;
        let mut probe = Self { id: id.to_owned(), device, seq: 0, first_command_id: Value::Null };
        probe.first_command_id = probe.next_command("update_config").await?;
        Ok(probe)
    }

    /// Answers the first command, and measures too high a temperature.
    pub(super) async fn publish_during_outage(&mut self) -> Result<()> {
        let cmd_id = self.first_command_id.clone();
        self.ack(cmd_id).await?;
        self.publish_temperature(95).await
    }

    /// Answers the command that was given in the trouble.
    pub(super) async fn ack_second_command(&mut self) -> Result<()> {
        let cmd_id = self.next_command("request_status").await?;
        self.ack(cmd_id).await
    }

    /// Looks whether all of it is there once, cools down, and looks again.
    pub(super) async fn verify(&mut self, system: &System) -> Result<()> {
        let id = self.id.clone();
        let commands = system.list(&format!("/api/devices/{id}/commands")).await?;
        let results: Vec<_> =
            commands.iter().map(|command| [&command["cmd"], &command["status"]]).collect();
        let expected = [["request_status", "accepted"], ["update_config", "accepted"]];
        ensure!(results == expected, "{id}: {commands:?}");
        let config = system.get(&format!("/api/devices/{id}/config")).await?;
        ensure!(config == json!({"send_interval_s": 20}), "{id}: {config}");
        let alerts = self.alerts(system).await?;
        ensure!(alerts.len() == 1 && alerts[0]["state"] == "open", "{id}: {alerts:?}");

        self.publish_temperature(80).await?;
        let this = &*self;
        system
            .eventually("the end of the alert", || async move {
                let alerts = this.alerts(system).await?;
                ensure!(alerts.len() == 1 && alerts[0]["state"] == "resolved", "{alerts:?}");
                Ok(())
            })
            .await?;
        let path = format!("/api/devices/{id}/metrics?metric=temperature&start=-1d");
        let points = system.list(&path).await?;
        let values: Vec<_> = points.iter().map(|point| point["value"].as_f64()).collect();
        ensure!(values == [Some(95.0), Some(80.0)], "{id}: {points:?}");
        let archived = system.list(&format!("/api/devices/{id}/raw-data")).await?;
        ensure!(archived.len() == self.seq as usize, "{id}: {archived:?}");
        Ok(())
    }

    /// Those of the rule.
    async fn alerts(&self, system: &System) -> Result<Vec<Value>> {
        let mut alerts = system.list(&format!("/api/devices/{}/alerts", self.id)).await?;
        alerts.retain(|alert| alert["alert_type"] == "threshold");
        Ok(alerts)
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

    /// The id of the next command of a kind. One that was not answered may come again before it.
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
