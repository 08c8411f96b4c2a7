//! Acknowledgement of a command, and the configuration that it puts into effect.

use aws_sdk_dynamodb::types::Update;
use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::time::Timestamp;
use meter_store::StoreError;

use super::Commands;
use crate::dynamodb::conditional::{self, is_applied};
use crate::dynamodb::item::{attribute, text};
use crate::dynamodb::table::{checked_build, names, values};
use crate::dynamodb::transaction::{self, TransactAction, TransactionError};
use crate::dynamodb::{devices, due};

impl Commands {
    /// Returns the update from an open command to an acknowledged one.
    fn acknowledgement_update(
        &self,
        command: &Command,
        acknowledged: &Command,
    ) -> Result<Update, StoreError> {
        let at = acknowledged.acked_at.unwrap_or(command.created_at);
        let (detail, set_detail) = match &acknowledged.ack_detail {
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
            .set_expression_attribute_names(names([
                "status",
                "acked_at",
                due::SHARD_ATTRIBUTE,
                due::DUE_AT_ATTRIBUTE,
            ]))
            .set_expression_attribute_values(values([
                ("status", attribute(&acknowledged.status)?),
                ("at", text(at.to_string())),
                ("read", attribute(&command.status)?),
            ]));
        if let Some(detail) = detail {
            update = update
                .expression_attribute_names("#ack_detail", "ack_detail")
                .expression_attribute_values(":detail", detail);
        }
        checked_build(update.build())
    }

    /// Stores an acknowledgement and the configuration that it puts into effect. Returns `false` if
    /// the command or the device changed since it was read.
    pub(super) async fn store_acknowledgement(
        &self,
        command: &Command,
        acknowledged: &Command,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = self.acknowledgement_update(command, acknowledged)?;
        let applies_config = acknowledged.status == CommandStatus::Accepted
            && acknowledged.cmd == CommandKind::UpdateConfig;
        let device = match applies_config {
            true => devices::get(&self.devices, &command.device_id).await?,
            false => None,
        };
        // A device that was deleted since has no configuration.
        let Some(device) = device else {
            return is_applied(conditional::update(&self.table.client, update).await);
        };
        let mut config = device.config.clone();
        config.extend(command.params.clone());
        let configure = devices::configure(&self.devices, &device, &config, at)?;
        let actions = vec![update.action(), configure.action()];
        match transaction::write(&self.table.client, actions).await {
            Ok(()) => Ok(true),
            Err(TransactionError::ConditionFailed(_)) => Ok(false),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }
}
