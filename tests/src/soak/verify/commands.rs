//! The commands of a device, and the configuration that results from them.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::runner::ScenarioRun;
use super::super::scenario::Registration;
use super::device::DeviceVerifier;

#[derive(Deserialize)]
struct Command {
    cmd_id: Uuid,
    status: String,
    ack_detail: Option<String>,
    #[serde(default)]
    ota: Option<Upgrade>,
}

#[derive(Deserialize)]
struct Upgrade {
    state: String,
    progress_pct: Option<f64>,
}

impl DeviceVerifier<'_> {
    /// Verifies that each command has one of its acknowledgements, and that the configuration
    /// consists of accepted parameters.
    pub(super) async fn verify_commands(&mut self, scenario_run: &ScenarioRun) -> Result<()> {
        let commands: Vec<Command> = self.list("/commands").await?;
        self.report.totals.commands.add(self.device.commands.len(), commands.len());
        let mut commands: HashMap<Uuid, Command> =
            commands.into_iter().map(|command| (command.cmd_id, command)).collect();
        let mut accepted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (planned_command, expected) in &self.device.commands {
            let Some(command) = commands.remove(&scenario_run.commands[*planned_command]) else {
                self.add_difference(format!("command {planned_command} is missing"));
                continue;
            };
            let actual = (command.status.as_str(), command.ack_detail.clone());
            let fits = match expected.acks.as_slice() {
                [] => actual == ("pending", None),
                acks => acks.contains(&actual),
            };
            if !fits {
                self.add_difference(format!(
                    "command {planned_command}: expected one of {:?}, actual {actual:?}",
                    expected.acks
                ));
            }
            let upgrade = command.ota.as_ref().map(|ota| (ota.state.as_str(), ota.progress_pct));
            let subject = self.profile.id.clone();
            self.report.compare(&subject, "upgrade", &expected.upgrade, &upgrade);
            let planned_command = &scenario_run.planned_commands[*planned_command];
            if command.status == "accepted" && planned_command.cmd == "update_config" {
                for (key, value) in planned_command.params.as_object().into_iter().flatten() {
                    accepted.entry(key.clone()).or_default().push(value.clone());
                }
            }
        }
        for id in commands.into_keys() {
            self.add_difference(format!("command {id} is unexpected"));
        }
        if self.profile.registration == Registration::BeforeMessages {
            let config = self.api.get(&self.path("/config")).await?;
            let config = config.as_object().cloned().unwrap_or_default();
            let fits = config.len() == accepted.len()
                && config.iter().all(|(key, value)| {
                    accepted.get(key).is_some_and(|values| values.contains(value))
                });
            if !fits {
                self.add_difference(format!(
                    "configuration: expected values of {accepted:?}, actual {config:?}"
                ));
            }
        }
        Ok(())
    }
}
