//! The registry.

use std::collections::BTreeMap;
use std::future::Future;

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;

use super::{Page, PageRequest, StoreError, WriteError};

/// Which devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// With this status.
    pub status: Option<DeviceStatus>,
    /// Of exactly this type.
    pub device_type: Option<String>,
    /// Whose id begins with this. The list is then cut into pages by `device_id`.
    pub id_prefix: Option<String>,
}

/// Why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum CreateDeviceError {
    /// There is one of this id.
    #[error("exists")]
    AlreadyExists,
    /// One of this id was deleted and what hangs on it is not swept yet: sweep, then try again.
    #[error("is being deleted")]
    BeingDeleted,
    /// See [`WriteError::Conflict`].
    #[error("written by somebody else meanwhile")]
    Conflict,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fleet in numbers; exact, since they change in the transactions that change the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Registered devices by status.
    pub by_status: BTreeMap<DeviceStatus, u64>,
    /// Registered devices by connection.
    pub by_connection: BTreeMap<Connection, u64>,
}

/// The registry.
pub trait DeviceStore: Send + Sync {
    /// Registers a device, in one transaction with its state (as [`DeviceState::register`] made it, under
    /// the version read) and the fleet's counts.
    fn create(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> impl Future<Output = Result<(), CreateDeviceError>> + Send;

    /// A registered device, read consistently.
    fn get(&self, id: &DeviceId)
    -> impl Future<Output = Result<Option<Device>, StoreError>> + Send;

    /// Replaces `before` by `after`, with the revision after that of `before`, if that is still the stored
    /// one; counts follow the status, and the state's [`DeviceState::device_type`] the type, in the same transaction.
    fn update(
        &self,
        before: &Device,
        after: &Device,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Newest first; with an id prefix in the order of ids.
    fn list(
        &self,
        filter: &DeviceFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Device>, StoreError>> + Send;

    /// First half of a delete, in one transaction: leaves a tombstone in place of the row, takes the
    /// device out of the counts, and writes its state as [`DeviceState::bury`] made it, under the version
    /// read. The tombstone is of the time at which the state's sweep began.
    fn create_tombstone(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Whether there is a tombstone.
    fn has_tombstone(&self, id: &DeviceId)
    -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Second half of a delete, when what hung on the device is swept: removes the tombstone of the delete that was
    /// asked for at `deleted_at`, if it is there.
    fn remove_tombstone(
        &self,
        id: &DeviceId,
        deleted_at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The fleet in numbers.
    fn counts(&self) -> impl Future<Output = Result<FleetCounts, StoreError>> + Send;
}
