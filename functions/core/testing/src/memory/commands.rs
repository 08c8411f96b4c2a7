use bytes::Bytes;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, Ota};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{
    AcknowledgeOutcome, CommandPublisher, CommandStore, CreateOutcome, IdempotencyKey,
    PUBLISH_RETRY_DELAY_S, Page, PageRequest, PublishError, StoreError,
};
use uuid::Uuid;

use super::alerts::{find_by_idempotency_key, record_idempotency_key};
use super::pages::page;
use super::{MemoryStores, Operation, Tables};

/// The maximum number of commands that one deletion removes.
const DELETE_BATCH_SIZE: usize = 25;

impl Tables {
    fn command_mut(&mut self, device_id: &DeviceId, cmd_id: Uuid) -> Option<&mut Command> {
        let command = self.commands.get_mut(&cmd_id);
        command.filter(|command| command.device_id == *device_id)
    }

    /// Returns the command, if it is pending.
    fn pending_mut(&mut self, device_id: &DeviceId, cmd_id: Uuid) -> Option<&mut Command> {
        let command = self.command_mut(device_id, cmd_id);
        command.filter(|command| command.status == CommandStatus::Pending)
    }
}

impl CommandStore for MemoryStores {
    async fn create(
        &self,
        command: &Command,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreateOutcome<Command>, StoreError> {
        self.call(Operation::CreateCommand, |tables| {
            if !tables.is_registered(&command.device_id) {
                return CreateOutcome::DeviceNotFound;
            }
            let (device_id, now) = (&command.device_id, command.created_at);
            let created = find_by_idempotency_key(&tables.command_keys, device_id, key, now);
            let created = created.and_then(|id| tables.commands.get(&id));
            if let Some(existing) = created.or_else(|| tables.commands.get(&command.cmd_id)) {
                return CreateOutcome::AlreadyExists(existing.clone());
            }
            record_idempotency_key(&mut tables.command_keys, device_id, key, command.cmd_id, now);
            if command.status == CommandStatus::Pending {
                let due = now.plus_seconds(PUBLISH_RETRY_DELAY_S).min(command.expires_at);
                tables.commands_due.insert(command.cmd_id, due);
            }
            tables.commands.insert(command.cmd_id, command.clone());
            CreateOutcome::Created
        })
        .await
    }

    async fn get(&self, device_id: &DeviceId, cmd_id: Uuid) -> Result<Option<Command>, StoreError> {
        self.call(Operation::GetCommand, |tables| tables.command_mut(device_id, cmd_id).cloned())
            .await
    }

    async fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(DeviceId, Uuid)>, StoreError> {
        self.call(Operation::ListDueCommands, |tables| {
            let due = tables.commands_due.iter().filter(|(_, at)| **at <= now);
            let mut due: Vec<_> = due.map(|(id, at)| (*at, *id)).collect();
            due.sort_unstable();
            due.truncate(limit);
            let owner = |id| Some(tables.commands.get(&id)?.device_id.clone());
            due.into_iter().filter_map(|(_, id)| Some((owner(id)?, id))).collect()
        })
        .await
    }

    async fn claim(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.call(Operation::ClaimCommand, |tables| {
            let command = tables.pending_mut(device_id, cmd_id);
            let Some(command) = command.filter(|command| command.published_at.is_none()) else {
                return false;
            };
            command.published_at = Some(at);
            let expires_at = command.expires_at;
            tables.commands_due.insert(cmd_id, expires_at);
            true
        })
        .await
    }

    async fn postpone(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Operation::PostponeCommand, |tables| {
            if let Some(command) = tables.pending_mut(device_id, cmd_id) {
                command.published_at = None;
                tables.commands_due.insert(cmd_id, until);
            }
        })
        .await
    }

    async fn time_out(&self, device_id: &DeviceId, cmd_id: Uuid) -> Result<(), StoreError> {
        self.call(Operation::TimeOutCommand, |tables| {
            if let Some(command) = tables.pending_mut(device_id, cmd_id) {
                command.status = CommandStatus::Timeout;
                tables.commands_due.remove(&cmd_id);
            }
        })
        .await
    }

    async fn mark_published(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Operation::MarkPublished, |tables| {
            if let Some(command) = tables.command_mut(device_id, cmd_id) {
                command.published_at.get_or_insert(at);
            }
            if let Some(command) = tables.pending_mut(device_id, cmd_id) {
                let expires_at = command.expires_at;
                tables.commands_due.insert(cmd_id, expires_at);
            }
        })
        .await
    }

    async fn find_device(&self, cmd_id: Uuid) -> Result<Option<DeviceId>, StoreError> {
        self.call(Operation::FindCommandDevice, |tables| {
            let command = tables.commands.get(&cmd_id);
            command.map(|command| command.device_id.clone())
        })
        .await
    }

    async fn list(
        &self,
        device_id: &DeviceId,
        status: Option<CommandStatus>,
        request: &PageRequest,
    ) -> Result<Page<Command>, StoreError> {
        self.call(Operation::ListCommands, |tables| {
            let after = request.after.as_deref();
            let rows = tables.commands.values().rev().filter(|command| {
                command.device_id == *device_id
                    && after.is_none_or(|after| command.cmd_id.to_string().as_str() < after)
            });
            let matches = |command: &Command| status.is_none_or(|s| command.status == s);
            page(
                rows,
                request,
                tables.read_budget,
                |command| matches(command).then(|| command.clone()),
                |command| command.cmd_id.to_string(),
            )
        })
        .await
    }

    async fn record_acknowledgement(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        result: AckResult,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<AcknowledgeOutcome, StoreError> {
        self.call(Operation::AcknowledgeCommand, |tables| {
            let Some(command) = tables.command_mut(device_id, cmd_id) else {
                return AcknowledgeOutcome::CommandNotFound;
            };
            if !command.status.is_open() {
                return AcknowledgeOutcome::AlreadyRecorded(command.clone());
            }
            command.status = result.into();
            command.ack_detail = detail.map(str::to_owned);
            command.acked_at = Some(at);
            let command = command.clone();
            tables.commands_due.remove(&cmd_id);
            if result == AckResult::Accepted && command.cmd == CommandKind::UpdateConfig {
                // The device may have been deleted since the command was created.
                if let Some(device) = tables.device_mut(device_id) {
                    device.config.extend(command.params.clone());
                    device.updated_at = at;
                    device.revision += 1;
                }
            }
            AcknowledgeOutcome::Recorded(command)
        })
        .await
    }

    async fn advance_ota(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        ota: &Ota,
    ) -> Result<Option<String>, StoreError> {
        self.call(Operation::AdvanceOta, |tables| {
            let command = tables.command_mut(device_id, cmd_id);
            let command = command.filter(|command| command.cmd == CommandKind::StartOta)?;
            if (command.ota.as_ref()).is_none_or(|before| before.is_advanced_by(ota)) {
                command.ota = Some(ota.clone());
            }
            command.fw_version().map(str::to_owned)
        })
        .await
    }

    async fn delete_for_device(
        &self,
        device_id: &DeviceId,
        deleted_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.call(Operation::DeleteCommands, |tables| {
            if !tables.is_deleted(device_id, deleted_at) {
                return false;
            }
            let of_device = tables.commands.values();
            let of_device = of_device.filter(|command| command.device_id == *device_id);
            let mut ids: Vec<Uuid> = of_device.map(|command| command.cmd_id).collect();
            let more = ids.len() > DELETE_BATCH_SIZE;
            ids.truncate(DELETE_BATCH_SIZE);
            for id in ids {
                tables.commands.remove(&id);
                tables.commands_due.remove(&id);
            }
            if !more {
                tables.command_keys.retain(|(id, _), _| id != device_id);
            }
            more
        })
        .await
    }
}

impl CommandPublisher for MemoryStores {
    async fn publish(
        &self,
        device_id: &DeviceId,
        _: CommandKind,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let mut is_done = false;
        let published = self.call(Operation::PublishCommand, |tables| {
            is_done = true;
            tables.published.push((device_id.clone(), payload));
        });
        published.await.map_err(|error| match is_done {
            true => PublishError::OutcomeUnknown(Box::new(error)),
            false => PublishError::Rejected(Box::new(error)),
        })
    }
}
