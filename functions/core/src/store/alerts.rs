//! Alerts.

use std::future::Future;

use uuid::Uuid;

use super::{IdempotencyKey, Made, Page, PageRequest, StoreError};
use crate::alert::{Alert, Severity};
use crate::id::DeviceId;
use crate::time::Timestamp;

/// Which alerts.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Of this device; none: of the fleet.
    pub device_id: Option<DeviceId>,
    /// Seen by somebody, or not.
    pub acknowledged: Option<bool>,
    /// Exactly so bad.
    pub severity: Option<Severity>,
}

/// Alerts.
pub trait AlertStore: Send + Sync {
    /// Raises an alert, in one transaction with the count, if its device is registered.
    fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<Made<Alert>, StoreError>> + Send;

    /// Newest first.
    fn list(
        &self,
        filter: &AlertFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Alert>, StoreError>> + Send;

    /// Marks it as seen; the alert as it is then (unchanged when it was seen before), none if there is
    /// no such alert.
    fn acknowledge(
        &self,
        alert_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<Option<Alert>, StoreError>> + Send;

    /// Marks its cause as ended, unless it is marked already or there is no such alert.
    fn resolve(
        &self,
        device_id: &DeviceId,
        alert_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes some of a device's alerts, counts included; whether there may be more.
    fn sweep(&self, device_id: &DeviceId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How many of the fleet's alerts nobody has seen.
    fn unacknowledged(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
