//! The ports of commands: their store, and their publication to the broker.

use std::error::Error;
use std::future::Future;

use bytes::Bytes;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, Ota};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use uuid::Uuid;

use super::{CreateOutcome, IdempotencyKey, Page, PageRequest, StoreError};

/// The result of recording an acknowledgement of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum AcknowledgeOutcome {
    /// The acknowledgement was recorded; contains the command afterwards.
    Recorded(Command),
    /// An earlier acknowledgement is kept; contains the command.
    AlreadyRecorded(Command),
    /// There is no such command.
    CommandNotFound,
}

impl AcknowledgeOutcome {
    /// Returns whether the acknowledgement puts another configuration into force.
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

/// Seconds after its creation at which a command that was not published is published again.
pub const PUBLISH_RETRY_DELAY_S: i64 = 60;

/// Stores commands.
pub trait CommandStore: Send + Sync {
    /// Stores a command, if its device is registered.
    ///
    /// Its deadline is [`PUBLISH_RETRY_DELAY_S`] after its creation until it is published, then its
    /// expiry. The same command id or idempotency key again returns the command that was created
    /// first.
    fn create(
        &self,
        command: &Command,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<CreateOutcome<Command>, StoreError>> + Send;

    /// Returns a command; the read is consistent.
    fn get(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<Option<Command>, StoreError>> + Send;

    /// Returns at most `limit` pending commands whose deadline is not after `now`.
    ///
    /// The read is eventually consistent.
    fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(DeviceId, Uuid)>, StoreError>> + Send;

    /// Marks a pending command as published before it is published; returns whether this call did.
    ///
    /// Only one of several concurrent calls returns true, so that a command that must not be
    /// repeated is published once. The deadline becomes the expiry.
    fn claim(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Sets another deadline for a pending command and marks it as not published.
    fn postpone(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Sets the status of a pending command to `timeout` and removes its deadline.
    fn time_out(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records that the broker accepted a command; the deadline of a pending command becomes its
    /// expiry.
    fn mark_published(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the device of a command.
    fn find_device(
        &self,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<Option<DeviceId>, StoreError>> + Send;

    /// Returns a page of a device's commands, newest first.
    fn list(
        &self,
        device_id: &DeviceId,
        status: Option<CommandStatus>,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Command>, StoreError>> + Send;

    /// Records the first acknowledgement of a command, also after a timeout.
    ///
    /// If an `update_config` is accepted, its parameters are merged into the device's configuration
    /// in the same transaction.
    fn record_acknowledgement(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        result: AckResult,
        detail: Option<&str>,
        at: Timestamp,
    ) -> impl Future<Output = Result<AcknowledgeOutcome, StoreError>> + Send;

    /// Updates the upgrade progress of a `start_ota` command, if [`Ota::is_advanced_by`] holds.
    ///
    /// Returns the target firmware version of the command, if there is such a command.
    fn advance_ota(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        ota: &Ota,
    ) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// Deletes a batch of a device's commands; returns whether more may be left.
    ///
    /// Does nothing unless the registry holds the tombstone of the deletion requested at
    /// `deleted_at`.
    fn delete_for_device(
        &self,
        device_id: &DeviceId,
        deleted_at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The reason why a command was not, or may not have been, published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The command was not sent, or the broker rejected it: it may be published again.
    #[error("the command was not published")]
    Rejected(#[source] Box<dyn Error + Send + Sync>),
    /// The command was sent, and the response of the broker was lost.
    #[error("it is unknown whether the command was published")]
    OutcomeUnknown(#[source] Box<dyn Error + Send + Sync>),
}

/// Publishes commands to devices.
pub trait CommandPublisher: Send + Sync {
    /// Publishes a payload to the device's command topic at QoS 1.
    ///
    /// A command that is not [`CommandKind::is_idempotent`] is sent once, without retries.
    fn publish(
        &self,
        device_id: &DeviceId,
        cmd: CommandKind,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}
