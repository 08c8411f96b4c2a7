//! A command that is due: it is published again while the broker has not taken it, and times out when
//! it expires.

use meter_domain::command::CommandStatus;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_service::outbox::{Outbox, Publication};
use meter_store::{
    AlertStore, CommandPublisher, CommandStore, DeviceStore, StateStore, StoreError,
};
use uuid::Uuid;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No answer came in time.
    TimedOut,
    /// The broker has it now.
    Republished,
    /// Nothing: it was answered meanwhile, the broker is still away, or it must not be sent twice.
    Watched,
}

/// Does what a command is due for.
pub(crate) async fn watch<S, A, C, D, P>(
    outbox: &Outbox<S, A, C, D, P>,
    id: &DeviceId,
    cmd_id: Uuid,
    now: Timestamp,
) -> Result<Outcome, StoreError>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
{
    let command = outbox.commands.get(id, cmd_id).await?;
    let pending = command.filter(|command| command.status == CommandStatus::Pending);
    let Some(command) = pending else { return Ok(Outcome::Watched) };
    match outbox.publish(&command, now).await? {
        Publication::Done => Ok(Outcome::Republished),
        Publication::Failed | Publication::Unknown | Publication::Claimed => Ok(Outcome::Watched),
        Publication::Expired => {
            outbox.commands.time_out(id, cmd_id).await?;
            Ok(Outcome::TimedOut)
        }
    }
}
