//! Commands, and the way to the broker.

use std::error::Error;
use std::future::Future;

use bytes::Bytes;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, Ota};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use uuid::Uuid;

use super::{CreateOutcome, IdempotencyKey, Page, PageRequest, StoreError};

/// What became of an answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum AcknowledgeOutcome {
    /// It was taken; the command as it is now.
    Recorded(Command),
    /// There was one before, which stands.
    AlreadyRecorded(Command),
    /// There is no such command.
    CommandNotFound,
}

impl AcknowledgeOutcome {
    /// Whether the answer brought another configuration into force.
    pub fn changes_configuration(&self) -> bool {
        match self {
            Self::Recorded(command) | Self::AlreadyRecorded(command) => {
                (command.cmd, command.status)
                    == (CommandKind::UpdateConfig, CommandStatus::Accepted)
            }
            Self::CommandNotFound => false,
        }
    }
}

/// Seconds after which a command that the broker did not take is published again.
pub const PUBLISH_RETRY_DELAY_S: i64 = 60;

/// Commands.
pub trait CommandStore: Send + Sync {
    /// Stores a command if its device is registered. Until the broker has it, it is due at
    /// [`PUBLISH_RETRY_DELAY_S`] after its making, then when it expires.
    fn create(
        &self,
        command: &Command,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<CreateOutcome<Command>, StoreError>> + Send;

    /// One command, read consistently.
    fn get(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<Option<Command>, StoreError>> + Send;

    /// Pending commands that are due at `now`, at most `limit`; a stale read is allowed.
    fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(DeviceId, Uuid)>, StoreError>> + Send;

    /// Notes, before it is done, that a command is published that must not be published twice: if it is pending and
    /// nobody has noted that before. Whether it is so: of all who ask, one may. It is due when it expires.
    fn claim(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes a command that is pending, and that the broker has not taken, due at another time.
    fn postpone(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes that no answer came, if it is still pending. It is due no more.
    fn time_out(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes that the broker has it; a command that is pending is due when it expires.
    fn mark_published(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whose command this is.
    fn find_device(
        &self,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<Option<DeviceId>, StoreError>> + Send;

    /// Newest first.
    fn list(
        &self,
        device_id: &DeviceId,
        status: Option<CommandStatus>,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Command>, StoreError>> + Send;

    /// Takes the first answer (a late one after `timeout`, too). When `update_config` is accepted, its
    /// parameters become configuration in force in the same transaction.
    fn record_acknowledgement(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        result: AckResult,
        detail: Option<&str>,
        at: Timestamp,
    ) -> impl Future<Output = Result<AcknowledgeOutcome, StoreError>> + Send;

    /// Moves a `start_ota` on, if [`Ota::is_advanced_by`] says so; else nothing changes. The firmware that it is to
    /// bring, if there is such a command.
    fn advance_ota(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        ota: &Ota,
    ) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// Removes some of a device's commands, while the tombstone of the delete that was asked for at `deleted_at` is
    /// there; whether there may be more.
    fn delete_for_device(
        &self,
        device_id: &DeviceId,
        deleted_at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Why a command did not reach the broker, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It was not sent, or the broker would not have it: it may be sent again.
    #[error("the broker did not take it")]
    Rejected(#[source] Box<dyn Error + Send + Sync>),
    /// It was sent, and nobody knows what became of it.
    #[error("nobody knows whether the broker took it")]
    OutcomeUnknown(#[source] Box<dyn Error + Send + Sync>),
}

/// Hands commands to the broker.
pub trait CommandPublisher: Send + Sync {
    /// Publishes to the device's command topic at QoS 1. One that is not [`CommandKind::is_idempotent`] is sent
    /// once, whatever becomes of it.
    fn publish(
        &self,
        device_id: &DeviceId,
        cmd: CommandKind,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}
