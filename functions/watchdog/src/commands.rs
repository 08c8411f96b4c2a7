//! A command that is due: it is published again while the broker has not taken it, and times out when
//! it expires.

use meter_domain::command::CommandStatus;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_service::command_publisher::{self, PublishOutcome};
use meter_store::{CommandStore, StoreError, Stores};
use uuid::Uuid;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No answer came in time.
    TimedOut,
    /// The broker has it now.
    Republished,
    /// Nothing: it was answered meanwhile, the broker is still away, or it must not be sent twice.
    UpdateError,
}

/// Does what a command is due for.
pub(crate) async fn check<S: Stores>(
    stores: &S,
    id: &DeviceId,
    cmd_id: Uuid,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let command = stores.commands().get(id, cmd_id).await?;
    let pending = command.filter(|command| command.status == CommandStatus::Pending);
    let Some(command) = pending else { return Ok(Outcome::UpdateError) };
    match command_publisher::publish(stores, &command, now).await? {
        PublishOutcome::Published => Ok(Outcome::Republished),
        PublishOutcome::Failed
        | PublishOutcome::OutcomeUnknown
        | PublishOutcome::AlreadyClaimed => Ok(Outcome::UpdateError),
        PublishOutcome::Expired => {
            stores.commands().time_out(id, cmd_id).await?;
            Ok(Outcome::TimedOut)
        }
    }
}
