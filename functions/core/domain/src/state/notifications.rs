//! Notifications as effects in the outbox (docs/adr/0019).
//!
//! A resolve notification waits for the hold-down of its alert. If the alert is reopened before,
//! neither the resolve nor the new opening is sent. Opened and resolved notifications therefore
//! alternate, even for a flapping device.

use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect, NotificationPolicy};
use crate::alert::{Alert, Severity};
use crate::notification::{Notification, NotificationEvent};
use crate::time::Timestamp;

/// Maximum number of queued notifications: the topic may be unavailable for hours, and an item is
/// limited to 400 KB.
const MAX_QUEUED_NOTIFICATIONS: usize = 40;

/// Seconds before a failed notification is sent again.
const NOTIFICATION_RETRY_S: i64 = 60;

/// Seconds after which a failing notification is dropped.
const NOTIFICATION_MAX_AGE_S: i64 = 24 * 3600;

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

    /// Enqueues a notification that is sent at `not_before` or later. Drops the oldest one if the
    /// queue is full.
    pub(super) fn enqueue_notification(
        &mut self,
        notification: Notification,
        not_before: Timestamp,
    ) {
        let is_notice = |effect: &Effect| matches!(effect, Effect::Notify { .. });
        if self.outbox.iter().filter(|effect| is_notice(effect)).count() >= MAX_QUEUED_NOTIFICATIONS
        {
            let oldest = self.outbox.iter().position(is_notice);
            let lost = oldest.map(|oldest| self.outbox.remove(oldest));
            tracing::error!(
                ?lost,
                "notification queue is full; the oldest notification is dropped"
            );
        }
        self.enqueue_effect(Effect::Notify { notification, not_before, since: None });
    }

    /// Removes the resolve notification of an alert that is reopened. Returns whether it was still
    /// queued.
    pub(super) fn cancel_resolved_notification(&mut self, id: Uuid) -> bool {
        let waiting = self.outbox.len();
        self.outbox.retain(|effect| {
            !matches!(effect, Effect::Notify { notification, .. }
                if notification.alert_id == id && notification.event == NotificationEvent::Resolved)
        });
        self.outbox.len() < waiting
    }
}

impl Effect {
    /// Earliest time of execution; `None`: immediately.
    pub fn not_before(&self) -> Option<Timestamp> {
        match self {
            Self::Notify { not_before, .. } => Some(*not_before),
            _ => None,
        }
    }

    /// The effect for the next attempt after a failure at `now`; `None`: the effect is dropped.
    #[must_use]
    pub fn reschedule(&self, now: Timestamp) -> Option<Self> {
        match self {
            Self::Notify { since: Some(since), .. }
                if since.plus_seconds(NOTIFICATION_MAX_AGE_S) <= now =>
            {
                None
            }
            Self::Notify { notification, since, .. } => Some(Self::Notify {
                notification: notification.clone(),
                not_before: now.plus_seconds(NOTIFICATION_RETRY_S),
                since: since.or(Some(now)),
            }),
            other => Some(other.clone()),
        }
    }
}
