//! The check of a command: publishes it again while the broker has not accepted it, and times it
//! out when it expires.

use meter_domain::command::CommandStatus;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{CommandStore, StoreError, Stores};
use uuid::Uuid;

use crate::command_publisher::{self, PublishOutcome};

/// The result of the check of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandCheck {
    /// The command expired without an acknowledgement.
    TimedOut,
    /// The broker has accepted the command.
    Republished,
    /// The command was acknowledged, the broker is not available, or the command must not be
    /// published twice.
    Unchanged,
}

/// Checks a command that is due.
pub(super) async fn check<S: Stores>(
    stores: &S,
    id: &DeviceId,
    cmd_id: Uuid,
    now: Timestamp,
) -> Result<CommandCheck, StoreError> {
    let command = stores.commands().get(id, cmd_id).await?;
    let pending = command.filter(|command| command.status == CommandStatus::Pending);
    let Some(command) = pending else { return Ok(CommandCheck::Unchanged) };
    match command_publisher::publish(stores, &command, now).await? {
        PublishOutcome::Published => Ok(CommandCheck::Republished),
        PublishOutcome::Failed
        | PublishOutcome::OutcomeUnknown
        | PublishOutcome::AlreadyClaimed => Ok(CommandCheck::Unchanged),
        PublishOutcome::Expired => {
            stores.commands().time_out(id, cmd_id).await?;
            Ok(CommandCheck::TimedOut)
        }
    }
}
