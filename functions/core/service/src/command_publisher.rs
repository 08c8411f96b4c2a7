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

#[cfg(test)]
mod tests {
    use meter_domain::command::CommandKind;
    use meter_domain::id::new_id;
    use meter_testing::memory::{Fault, MemoryStores, Operation};
    use serde_json::Map;

    use super::*;
    use crate::test_fixtures::{device_id, register, second};

    async fn create(memory: &MemoryStores, cmd: CommandKind, created_s: i64) -> Command {
        let command = Command {
            cmd_id: new_id(second(created_s)),
            device_id: device_id(),
            cmd,
            params: Map::new(),
            status: CommandStatus::Pending,
            ack_detail: None,
            created_at: second(created_s),
            published_at: None,
            acked_at: None,
            expires_at: second(created_s + 300),
            ota: None,
        };
        CommandStore::create(memory, &command, None).await.unwrap();
        command
    }

    async fn stored(memory: &MemoryStores, command: &Command) -> Command {
        let stored = CommandStore::get(memory, &command.device_id, command.cmd_id).await;
        stored.unwrap().unwrap()
    }

    #[tokio::test]
    async fn published_command_is_marked_as_published() {
        let memory = register(MemoryStores::new()).await;
        for cmd in [CommandKind::RequestStatus, CommandKind::Reboot] {
            let command = create(&memory, cmd, 0).await;
            let outcome = publish(&memory, &command, second(1)).await.unwrap();
            assert_eq!(outcome, PublishOutcome::Published);
            assert_eq!(stored(&memory, &command).await.published_at, Some(second(1)));
        }
        assert_eq!(memory.published().len(), 2);
    }

    #[tokio::test]
    async fn expired_command_is_not_published() {
        let memory = register(MemoryStores::new()).await;
        let command = create(&memory, CommandKind::RequestStatus, 0).await;
        let outcome = publish(&memory, &command, command.expires_at).await.unwrap();
        assert_eq!((outcome, memory.published().len()), (PublishOutcome::Expired, 0));
    }

    #[tokio::test]
    async fn rejected_command_is_due_after_the_retry_delay() {
        let memory = register(MemoryStores::new()).await;
        let command = create(&memory, CommandKind::RequestStatus, 0).await;
        memory.fail_next(Operation::PublishCommand, Fault::Reject);
        let outcome = publish(&memory, &command, second(10)).await.unwrap();
        assert_eq!(outcome, PublishOutcome::Failed);
        for (s, expected) in [(69, 0), (70, 1)] {
            assert_eq!(memory.list_due(second(s), 10).await.unwrap().len(), expected, "{s}");
        }
    }

    #[tokio::test]
    async fn reboot_with_an_unknown_outcome_is_not_published_again() {
        let memory = register(MemoryStores::new()).await;
        let command = create(&memory, CommandKind::Reboot, 0).await;
        memory.fail_next(Operation::PublishCommand, Fault::LoseResponse);
        for expected in [PublishOutcome::OutcomeUnknown, PublishOutcome::AlreadyClaimed] {
            assert_eq!(publish(&memory, &command, second(1)).await.unwrap(), expected);
        }
        assert_eq!(memory.published().len(), 1);
    }

    #[tokio::test]
    async fn only_older_idempotent_commands_are_republished() {
        let memory = register(MemoryStores::new()).await;
        create(&memory, CommandKind::Reboot, 1).await;
        let command = create(&memory, CommandKind::RequestStatus, 2).await;
        create(&memory, CommandKind::RequestStatus, 20).await;
        republish_pending(&memory, &device_id(), second(10), second(30)).await.unwrap();
        assert_eq!(memory.published().len(), 1);
        assert_eq!(stored(&memory, &command).await.published_at, Some(second(30)));
    }
}
