//! Notifications about alerts and their texts.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::{Alert, Severity};
use crate::id::DeviceId;
use crate::time::Timestamp;

/// Maximum length of an SNS subject, in ASCII characters.
const MAX_SUBJECT: usize = 100;

/// The event of an alert that a notification reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationEvent {
    /// The alert opened.
    Opened,
    /// The alert was resolved.
    Resolved,
}

impl NotificationEvent {
    /// Name in messages and attributes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Resolved => "resolved",
        }
    }
}

/// A notification about an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Id of the alert.
    pub alert_id: Uuid,
    /// Device of the alert.
    pub device_id: DeviceId,
    /// Type of the alert.
    pub alert_type: String,
    /// Severity of the alert.
    pub severity: Severity,
    /// The reported event.
    pub event: NotificationEvent,
    /// Time of the event.
    pub at: Timestamp,
    /// Text of the event.
    pub message: String,
}

impl Notification {
    /// The notification about the opening of an alert.
    pub fn opened(alert: &Alert, at: Timestamp) -> Self {
        Self {
            alert_id: alert.alert_id,
            device_id: alert.device_id.clone(),
            alert_type: alert.alert_type.clone(),
            severity: alert.severity,
            event: NotificationEvent::Opened,
            at,
            message: alert.message.clone(),
        }
    }

    /// Id of the notification; equal for repeated sends and different for other notifications.
    pub fn dedup_id(&self) -> String {
        format!("{}.{}.{}", self.alert_id, self.event.as_str(), self.at.as_millis())
    }

    /// Subject of an email: one line of ASCII, without other characters.
    pub fn subject(&self) -> String {
        let Self { severity, event, alert_type, device_id, .. } = self;
        let (severity, event) = (severity.as_str(), event.as_str());
        let line = format!("[{severity}] {alert_type} {event}: {device_id}");
        line.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).take(MAX_SUBJECT).collect()
    }

    /// Text of an SMS.
    pub fn sms_text(&self) -> String {
        let (severity, event) = (self.severity.as_str(), self.event.as_str());
        format!("{severity} {event}: {}", self.message)
    }

    /// Text of an email.
    pub fn email_text(&self) -> String {
        let Self { alert_id, device_id, alert_type, severity, event, at, message } = self;
        let (severity, event) = (severity.as_str(), event.as_str());
        format!(
            "{message}\n\nEvent     {event} at {at}\nDevice    {device_id}\nAlert     {alert_type}, {severity}\nAlert id  {alert_id}\n"
        )
    }

    /// JSON document for queues, webhooks and functions.
    pub fn to_json(&self) -> Value {
        json!({
            "event": self.event,
            "at": self.at,
            "alert_id": self.alert_id,
            "device_id": self.device_id,
            "alert_type": self.alert_type,
            "severity": self.severity,
            "message": self.message,
            "dedup_id": self.dedup_id(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification() -> Notification {
        let at = Timestamp::from_millis(1_000).unwrap();
        let alert = Alert::device_offline(&DeviceId::parse("meter-1").unwrap(), at);
        Notification::opened(&alert, at)
    }

    #[test]
    fn subject_is_one_line_of_ascii_of_limited_length() {
        assert_eq!(notification().subject(), "[warning] device_offline opened: meter-1");
        let hostile =
            Notification { alert_type: "é\n".repeat(200) + &"x".repeat(200), ..notification() };
        let subject = hostile.subject();
        assert!(subject.len() == 100 && subject.starts_with("[warning] xxx"), "{subject}");
    }

    #[test]
    fn dedup_id_differs_only_between_notifications() {
        let resolved = Notification { event: NotificationEvent::Resolved, ..notification() };
        assert_eq!(notification().dedup_id(), notification().dedup_id());
        assert_ne!(notification().dedup_id(), resolved.dedup_id());
        assert_eq!(notification().to_json()["dedup_id"], notification().dedup_id());
    }
}
