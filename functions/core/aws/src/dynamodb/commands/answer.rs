//! An answer to a command, and what comes of it.

use aws_sdk_dynamodb::types::Update;
use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::time::Timestamp;
use meter_store::StoreError;

use super::Commands;
use crate::dynamodb::conditional::{self, Failure};
use crate::dynamodb::item::{attribute, text};
use crate::dynamodb::table::{built, names, values};
use crate::dynamodb::transaction::{self, Action, Canceled};
use crate::dynamodb::{devices, due};

impl Commands {
    /// Puts an answered command in place of one that is open.
    fn answer(&self, command: &Command, answered: &Command) -> Result<Update, StoreError> {
        let at = answered.acked_at.unwrap_or(command.created_at);
        let (detail, set_detail) = match &answered.ack_detail {
            Some(detail) => (Some(text(detail)), ", #ack_detail = :detail"),
            None => (None, ""),
        };
        let mut update = self
            .table
            .update(command.device_id.as_str(), &command.cmd_id.to_string())
            .update_expression(format!(
                "SET #status = :status, #acked_at = :at{set_detail} REMOVE #due_shard, #due_at"
            ))
            .condition_expression("#status = :read")
            .set_expression_attribute_names(names(["status", "acked_at", due::SHARD, due::AT]))
            .set_expression_attribute_values(values([
                ("status", attribute(&answered.status)?),
                ("at", text(at.to_string())),
                ("read", attribute(&command.status)?),
            ]));
        if let Some(detail) = detail {
            update = update
                .expression_attribute_names("#ack_detail", "ack_detail")
                .expression_attribute_values(":detail", detail);
        }
        built(update.build())
    }

    /// Stores an answer, and the configuration that it brings into force. False: something of it was
    /// written by somebody else since it was read.
    pub(super) async fn store_answer(
        &self,
        command: &Command,
        answered: &Command,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = self.answer(command, answered)?;
        let brings_config =
            answered.status == CommandStatus::Accepted && answered.cmd == CommandKind::UpdateConfig;
        let device = match brings_config {
            true => devices::get(&self.devices, &command.device_id).await?,
            false => None,
        };
        // A device that is deleted meanwhile has no configuration any more.
        let Some(device) = device else {
            return match conditional::update(&self.table.client, update).await {
                Ok(_) => Ok(true),
                Err(Failure::Refused(_)) => Ok(false),
                Err(Failure::Failed(error)) => Err(error),
            };
        };
        let mut config = device.config.clone();
        config.extend(command.params.clone());
        let configure = devices::configure(&self.devices, &device, &config, at)?;
        let actions = vec![update.action(), configure.action()];
        match transaction::write(&self.table.client, actions).await {
            Ok(()) => Ok(true),
            Err(Canceled::Refused(_)) => Ok(false),
            Err(Canceled::Failed(error)) => Err(error),
        }
    }
}
