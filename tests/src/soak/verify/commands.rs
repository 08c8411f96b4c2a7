//! A device's commands, and the configuration that they have brought.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::play::Played;
use super::super::story::Registration;
use super::device::OfDevice;

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

impl OfDevice<'_> {
    /// Each command has an answer that was given, and the configuration is what was accepted.
    pub(super) async fn commands(&mut self, played: &Played) -> Result<()> {
        let commands: Vec<Command> = self.list("/commands").await?;
        self.found.totals.commands.add(self.device.commands.len(), commands.len());
        let mut commands: HashMap<Uuid, Command> =
            commands.into_iter().map(|command| (command.cmd_id, command)).collect();
        let mut accepted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (order, expected) in &self.device.commands {
            let Some(command) = commands.remove(&played.commands[*order]) else {
                self.difference(format!("command {order} is not there"));
                continue;
            };
            let said = (command.status.as_str(), command.ack_detail.clone());
            let fits = match expected.answers.as_slice() {
                [] => said == ("pending", None),
                answers => answers.contains(&said),
            };
            if !fits {
                self.difference(format!(
                    "command {order} is {said:?}, expected {:?}",
                    expected.answers
                ));
            }
            let upgrade = command.ota.as_ref().map(|ota| (ota.state.as_str(), ota.progress_pct));
            let whose = self.character.id.clone();
            self.found.compare(&whose, "upgrade", &expected.upgrade, &upgrade);
            let order = &played.orders[*order];
            if command.status == "accepted" && order.cmd == "update_config" {
                for (key, value) in order.params.as_object().into_iter().flatten() {
                    accepted.entry(key.clone()).or_default().push(value.clone());
                }
            }
        }
        for id in commands.into_keys() {
            self.difference(format!("command {id} is there that nobody has given"));
        }
        if self.character.registration == Registration::Before {
            let config = self.api.get(&self.path("/config")).await?;
            let config = config.as_object().cloned().unwrap_or_default();
            let fits = config.len() == accepted.len()
                && config.iter().all(|(key, value)| {
                    accepted.get(key).is_some_and(|values| values.contains(value))
                });
            if !fits {
                self.difference(format!("configuration {config:?}, accepted was {accepted:?}"));
            }
        }
        Ok(())
    }
}
