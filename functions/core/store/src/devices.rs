//! The port of the registry of devices.

use std::collections::BTreeMap;
use std::future::Future;

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;

use super::{Page, PageRequest, StoreError, WriteError};

/// A filter for devices; a field that is `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// The status.
    pub status: Option<DeviceStatus>,
    /// The device type, exactly.
    pub device_type: Option<String>,
    /// A prefix of the device id. With a prefix, pages are in order of device id.
    pub id_prefix: Option<String>,
}

/// The reason why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum CreateDeviceError {
    /// A device with this id is registered.
    #[error("the device exists")]
    AlreadyExists,
    /// A deleted device with this id still has data: clean it up, then try again.
    #[error("the device is being deleted")]
    BeingDeleted,
    /// See [`WriteError::Conflict`].
    #[error("the device state was changed by another writer")]
    Conflict,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Numbers of registered devices, kept exact by the transactions that change the devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// By registry status.
    pub by_status: BTreeMap<DeviceStatus, u64>,
    /// By connection status.
    pub by_connection: BTreeMap<Connection, u64>,
}

/// Stores the registry of devices and the fleet counters.
pub trait DeviceStore: Send + Sync {
    /// Registers a device, and writes its state and the fleet counters in the same transaction.
    ///
    /// `state` is the state that was read, changed by [`DeviceState::register`].
    fn create(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> impl Future<Output = Result<(), CreateDeviceError>> + Send;

    /// Returns a registered device; the read is consistent.
    fn get(&self, id: &DeviceId)
    -> impl Future<Output = Result<Option<Device>, StoreError>> + Send;

    /// Replaces `before` by `after` under the next revision, if `before` is still the stored
    /// revision.
    ///
    /// The fleet counters and [`DeviceState::device_type`] change in the same transaction.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] if another revision is stored.
    fn update(
        &self,
        before: &Device,
        after: &Device,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Returns a page of devices: newest first, or by device id if the filter has a prefix.
    fn list(
        &self,
        filter: &DeviceFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Device>, StoreError>> + Send;

    /// Replaces a device by a tombstone, the first step of its deletion.
    ///
    /// The same transaction decrements the fleet counters and writes `state`, which is the state
    /// that was read, changed by [`DeviceState::mark_deleted`]. The tombstone has the time of that
    /// deletion.
    fn create_tombstone(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Returns whether a tombstone exists.
    fn has_tombstone(&self, id: &DeviceId)
    -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes the tombstone of the deletion requested at `deleted_at`, the last step of a cleanup.
    fn remove_tombstone(
        &self,
        id: &DeviceId,
        deleted_at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the fleet counters.
    fn counts(&self) -> impl Future<Output = Result<FleetCounts, StoreError>> + Send;
}
