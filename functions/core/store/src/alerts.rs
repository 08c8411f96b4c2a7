//! The port of alerts.

use std::future::Future;

use meter_domain::alert::{Alert, AlertRevision, AlertState, Severity};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use uuid::Uuid;

use super::{CreateOutcome, IdempotencyKey, Page, PageRequest, StoreError};

/// A filter for alerts; a field that is `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// The device; `None` selects the whole fleet.
    pub device_id: Option<DeviceId>,
    /// Whether a person has acknowledged the alert.
    pub acknowledged: Option<bool>,
    /// The severity, exactly.
    pub severity: Option<Severity>,
    /// Whether the alert is open, acknowledged or resolved.
    pub state: Option<AlertState>,
}

impl AlertFilter {
    /// Returns whether an alert matches every field except the device.
    pub fn matches(&self, alert: &Alert) -> bool {
        self.acknowledged.is_none_or(|expected| alert.acknowledged == expected)
            && self.severity.is_none_or(|expected| alert.severity == expected)
            && self.state.is_none_or(|expected| alert.state() == expected)
    }
}

/// Stores alerts and the counter of unacknowledged alerts.
pub trait AlertStore: Send + Sync {
    /// Stores an alert, if its device is registered, and counts it in the same transaction.
    ///
    /// The same alert id or idempotency key again returns the alert that was created first.
    fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<CreateOutcome<Alert>, StoreError>> + Send;

    /// Returns a page of alerts, newest first.
    fn list(
        &self,
        filter: &AlertFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Alert>, StoreError>> + Send;

    /// Acknowledges an alert and returns it, or `None` if there is no such alert.
    ///
    /// `by` names the user, if known. The first acknowledgement is kept.
    fn acknowledge(
        &self,
        alert_id: Uuid,
        by: Option<&str>,
        at: Timestamp,
    ) -> impl Future<Output = Result<Option<Alert>, StoreError>> + Send;

    /// Applies a revision to an alert.
    ///
    /// Does nothing if a revision of a later state version was applied, or if there is no such
    /// alert.
    fn revise(
        &self,
        device_id: &DeviceId,
        alert_id: Uuid,
        revision: &AlertRevision,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes a batch of a device's alerts with their counts; returns whether more may be left.
    ///
    /// Does nothing unless the registry holds the tombstone of the deletion requested at
    /// `deleted_at`.
    fn delete_for_device(
        &self,
        device_id: &DeviceId,
        deleted_at: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Returns the number of unacknowledged alerts in the fleet.
    fn count_unacknowledged(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
