//! Notifications as effects in the outbox (docs/adr/0019).
//!
//! A resolve notification waits for the hold-down of its alert. If the alert is reopened before,
//! neither the resolve nor the new opening is sent. Opened and resolved notifications therefore
//! alternate, even for a flapping device.

use uuid::Uuid;

use super::{DevicePolicy, DeviceState, NotificationPolicy};
use crate::alert::{Alert, Severity};
use crate::notification::{Notification, NotificationEvent};
use crate::time::Timestamp;

impl DeviceState {
    /// Enqueues the notification about an alert of the platform that opened at `at`.
    pub(super) fn notify_device_alert(
        &mut self,
        alert: &Alert,
        at: Timestamp,
        policy: &DevicePolicy,
    ) {
        if policy.notify == NotificationPolicy::All {
            self.enqueue_notification(Notification::opened(alert, at), at);
        }
    }

    /// Enqueues the notification about an alert of the platform that was resolved at `at`, delayed
    /// by the hold-down.
    pub(super) fn notify_resolved(
        &mut self,
        (alert_id, alert_type): (Uuid, &str),
        (at, later): (Timestamp, u32),
        message: String,
        policy: &DevicePolicy,
    ) {
        if policy.notify == NotificationPolicy::All {
            let notification = Notification {
                alert_id,
                device_id: self.device_id.clone(),
                alert_type: alert_type.to_owned(),
                severity: Severity::Warning,
                event: NotificationEvent::Resolved,
                at,
                message,
            };
            self.enqueue_notification(notification, at.plus_seconds(i64::from(later)));
        }
    }
}
