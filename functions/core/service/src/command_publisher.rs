//! Publishes commands to devices.

use meter_domain::command::{self, Command, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{
    CommandPublisher, CommandStore, DeviceStore, PUBLISH_RETRY_DELAY_S, PageRequest, PublishError,
    StoreError, Stores, error_chain,
};

/// Commands that are republished when their device comes online, at most.
const MAX_REPUBLISHED_COMMANDS: usize = 100;

/// The result of publishing a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker accepted the command.
    Published,
    /// The broker did not accept the command. It is published again later.
    Failed,
    /// The broker may have accepted the command. It is not idempotent, so it is not published
    /// again.
    OutcomeUnknown,
    /// The command is not idempotent and was published or claimed before, or it is not pending.
    AlreadyClaimed,
    /// The command has expired.
    Expired,
}

/// Publishes a command that has not expired at `now`, and records that it was published.
///
/// A command that is not idempotent is claimed before it is published. A crash in between loses the
/// command: it times out and is never published twice.
///
/// # Errors
///
/// A store failed before the command was published.
pub async fn publish<S: Stores>(
    stores: &S,
    command: &Command,
    now: Timestamp,
) -> Result<PublishOutcome, StoreError> {
    if now >= command.expires_at {
        return Ok(PublishOutcome::Expired);
    }
    let (device_id, cmd_id) = (&command.device_id, command.cmd_id);
    let device = stores.devices().get(device_id).await?;
    let key = device.and_then(|device| device.command_key);
    let payload = command::payload(command, key.as_deref());
    let is_idempotent = command.cmd.is_idempotent();
    if !is_idempotent && !stores.commands().claim(device_id, cmd_id, now).await? {
        return Ok(PublishOutcome::AlreadyClaimed);
    }
    if let Err(error) = stores.publisher().publish(device_id, command.cmd, payload).await {
        tracing::warn!(%cmd_id, error = error_chain(&error), "publishing a command failed");
        if !is_idempotent && matches!(error, PublishError::OutcomeUnknown(_)) {
            return Ok(PublishOutcome::OutcomeUnknown);
        }
        let retry_at = now.plus_seconds(PUBLISH_RETRY_DELAY_S).min(command.expires_at);
        stores.commands().postpone(device_id, cmd_id, retry_at).await?;
        return Ok(PublishOutcome::Failed);
    }
    if !is_idempotent {
        return Ok(PublishOutcome::Published);
    }
    // Not an error: the caller would publish the command again.
    if let Err(error) = stores.commands().mark_published(device_id, cmd_id, now).await {
        tracing::warn!(
            %cmd_id,
            error = error_chain(&error),
            "a published command was not marked as published"
        );
    }
    Ok(PublishOutcome::Published)
}

/// Publishes the pending idempotent commands of a device that came online at `came_at`, oldest
/// first. Commands that were created after `came_at` are published by the request that creates
/// them.
///
/// # Errors
///
/// See [`publish`].
pub(crate) async fn republish_pending<S: Stores>(
    stores: &S,
    device_id: &DeviceId,
    came_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let page = PageRequest { limit: MAX_REPUBLISHED_COMMANDS, after: None };
    let pending = stores.commands().list(device_id, Some(CommandStatus::Pending), &page).await?;
    let is_affected = |c: &&Command| c.cmd.is_idempotent() && c.created_at < came_at;
    for command in pending.items.iter().filter(is_affected).rev() {
        publish(stores, command, now).await?;
    }
    Ok(())
}
