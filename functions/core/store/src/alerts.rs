//! Alerts.

use std::future::Future;

use meter_domain::alert::{Alert, AlertRevision, AlertState, Severity};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use uuid::Uuid;

use super::{CreateOutcome, IdempotencyKey, Page, PageRequest, StoreError};

/// Which alerts.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Of this device; none: of the fleet.
    pub device_id: Option<DeviceId>,
    /// Seen by somebody, or not.
    pub acknowledged: Option<bool>,
    /// Exactly so bad.
    pub severity: Option<Severity>,
    /// There in its life.
    pub state: Option<AlertState>,
}

impl AlertFilter {
    /// Whether an alert passes, whosever it is.
    pub fn matches(&self, alert: &Alert) -> bool {
        self.acknowledged.is_none_or(|wanted| alert.acknowledged == wanted)
            && self.severity.is_none_or(|wanted| alert.severity == wanted)
            && self.state.is_none_or(|wanted| alert.state() == wanted)
    }
}

/// Alerts.
pub trait AlertStore: Send + Sync {
    /// Raises an alert, in one transaction with the count, if its device is registered.
    fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<CreateOutcome<Alert>, StoreError>> + Send;

    /// Newest first.
    fn list(
        &self,
        filter: &AlertFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Alert>, StoreError>> + Send;

    /// Marks it as seen, `by` whom if that is known; the alert as it is then (unchanged when it was seen before), none
    /// if there is no such alert.
    fn acknowledge(
        &self,
        alert_id: Uuid,
        by: Option<&str>,
        at: Timestamp,
    ) -> impl Future<Output = Result<Option<Alert>, StoreError>> + Send;

    /// Changes what it says, unless a revision of a greater number was applied before, or there is no
    /// such alert.
    fn revise(
        &self,
        device_id: &DeviceId,
        alert_id: Uuid,
        revision: &AlertRevision,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes some of a device's alerts, counts included, while the tombstone of the delete that was asked for at
    /// `deleted_at` is there; whether there may be more.
    fn delete_for_device(
        &self,
        device_id: &DeviceId,
        deleted_at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How many of the fleet's alerts nobody has seen.
    fn count_unacknowledged(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
