//! What people are to be told, as effects that wait in the outbox.
//!
//! The end of an alert is told when its hold-down is over: until then it may be reopened, and then nobody is told
//! either. So whoever is told hears of openings and ends in turn, however a device flaps.

use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect, NotificationPolicy};
use crate::alert::{Alert, Severity};
use crate::notification::{Notification, NotificationEvent};
use crate::time::Timestamp;

/// Notices that wait at most; the topic may be away for hours, and a state ends at 400 KB.
const MAX_QUEUED_NOTIFICATIONS: usize = 40;

/// How long a notification that cannot be sent waits for the next try, in seconds.
const NOTIFICATION_RETRY_S: i64 = 60;

/// How long a notification is tried, in seconds: later than that it is no news.
const NOTIFICATION_MAX_AGE_S: i64 = 24 * 3600;

impl DeviceState {
    /// An alert that the platform itself raises began at `at`.
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

    /// Such an alert ended at `at`; it is told of `later` seconds later, if it is not reopened until then.
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

    /// People are told something, from `not_before` on.
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

    /// Nobody is told of an end that was none. False: they know of it already.
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
    /// When it may be carried out; none: at once.
    pub fn not_before(&self) -> Option<Timestamp> {
        match self {
            Self::Notify { not_before, .. } => Some(*not_before),
            _ => None,
        }
    }

    /// The same for another try, of what could not be done at `now`; none: it is given up.
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
