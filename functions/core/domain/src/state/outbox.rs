//! The outbox: effects of a device state that are not executed yet (docs/adr/0004).
//!
//! Invariants, which bound the size of the state: no effect is queued twice; an alert has at most
//! one queued revision, the last; a command has at most one queued acknowledgement, the first, and
//! one progress report, the most advanced; at most [`MAX_QUEUED_NOTIFICATIONS`] notifications are
//! queued.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::DeviceState;
use crate::alert::{Alert, AlertRevision};
use crate::command::{AckResult, Ota};
use crate::notification::{Notification, NotificationEvent};
use crate::time::{DAY_S, Timestamp};

/// Maximum number of queued notifications: the topic may be unavailable for hours, and an item is
/// limited to 400 KB.
const MAX_QUEUED_NOTIFICATIONS: usize = 40;

/// Seconds before a failed notification is sent again.
const NOTIFICATION_RETRY_S: i64 = 60;

/// Seconds after which a failing notification is dropped.
const NOTIFICATION_MAX_AGE_S: i64 = DAY_S;

/// A change outside of the device state; executing it repeatedly has the same result as once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Create an alert.
    OpenAlert {
        /// The alert; its id is derived from its cause.
        alert: Alert,
    },
    /// Apply a change to an alert.
    ReviseAlert {
        /// Id of the alert.
        alert_id: Uuid,
        /// The change.
        revision: AlertRevision,
    },
    /// Record the acknowledgement of a command.
    RecordCommandAck {
        /// Id of the command.
        cmd_id: Uuid,
        /// Result in the acknowledgement.
        result: AckResult,
        /// Text of the device.
        detail: Option<String>,
        /// Receipt time of the acknowledgement.
        at: Timestamp,
    },
    /// Record the progress of a firmware upgrade.
    AdvanceOta {
        /// Id of the command.
        cmd_id: Uuid,
        /// The progress.
        ota: Ota,
    },
    /// Publish pending repeatable commands again, because the device came online.
    RepublishCommands {
        /// Time at which the device came online.
        at: Timestamp,
    },
    /// Send a notification.
    Notify {
        /// The notification.
        notification: Notification,
        /// Earliest time of sending.
        not_before: Timestamp,
        /// Time of the first failed attempt.
        since: Option<Timestamp>,
    },
}

/// Effects that are not executed yet, in the order of their decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outbox(Vec<Effect>);

impl Deref for Outbox {
    type Target = [Effect];

    fn deref(&self) -> &[Effect] {
        &self.0
    }
}

impl Outbox {
    /// Adds an effect, or merges it with a queued one as the invariants require.
    pub fn enqueue(&mut self, effect: Effect) {
        match &effect {
            Effect::ReviseAlert { alert_id, .. } => self.0.retain(
                |queued| !matches!(queued, Effect::ReviseAlert { alert_id: id, .. } if id == alert_id),
            ),
            Effect::RecordCommandAck { cmd_id, .. } => {
                let is_same = |queued: &Effect| matches!(queued, Effect::RecordCommandAck { cmd_id: id, .. } if id == cmd_id);
                if self.iter().any(is_same) {
                    return;
                }
            }
            Effect::AdvanceOta { cmd_id, ota } => {
                let queued = self.0.iter_mut().find_map(|queued| match queued {
                    Effect::AdvanceOta { cmd_id: id, ota } if id == cmd_id => Some(ota),
                    _ => None,
                });
                if let Some(queued) = queued {
                    if queued.is_advanced_by(ota) {
                        queued.clone_from(ota);
                    }
                    return;
                }
            }
            Effect::Notify { .. } => self.drop_oldest_notification_over_limit(),
            Effect::OpenAlert { .. } | Effect::RepublishCommands { .. } => {}
        }
        if !self.contains(&effect) {
            self.0.push(effect);
        }
    }

    /// Removes effects that were executed and appends those that must be tried again.
    pub fn replace(&mut self, executed: &[Effect], rescheduled: &[Effect]) {
        self.0.retain(|effect| !executed.contains(effect));
        self.0.extend_from_slice(rescheduled);
    }

    /// Removes the resolve notification of an alert that is reopened. Returns whether it was still
    /// queued.
    pub(super) fn cancel_resolve_notification(&mut self, id: Uuid) -> bool {
        let queued = self.len();
        self.0.retain(|effect| {
            !matches!(effect, Effect::Notify { notification, .. }
                if notification.alert_id == id && notification.event == NotificationEvent::Resolved)
        });
        self.len() < queued
    }

    fn drop_oldest_notification_over_limit(&mut self) {
        let is_notification = |effect: &Effect| matches!(effect, Effect::Notify { .. });
        if self.iter().filter(|effect| is_notification(effect)).count() >= MAX_QUEUED_NOTIFICATIONS
        {
            let oldest = self.iter().position(is_notification);
            let dropped = oldest.map(|oldest| self.0.remove(oldest));
            tracing::error!(
                ?dropped,
                "notification queue is full; the oldest notification is dropped"
            );
        }
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

impl DeviceState {
    /// Enqueues an effect. Only registered devices have alerts and commands.
    pub(super) fn enqueue_effect(&mut self, effect: Effect) {
        if self.registered {
            self.outbox.enqueue(effect);
        }
    }

    /// Enqueues a change of an alert, numbered by the version of the write that decides it: the
    /// later decision applies in any order of execution (docs/adr/0017).
    pub(super) fn enqueue_alert_revision(
        &mut self,
        alert_id: Uuid,
        resolved_at: Option<Timestamp>,
        message: Option<String>,
    ) {
        let revision = AlertRevision { state_version: self.version + 1, resolved_at, message };
        self.enqueue_effect(Effect::ReviseAlert { alert_id, revision });
    }

    /// Enqueues a notification that is sent at `not_before` or later.
    pub(super) fn enqueue_notification(
        &mut self,
        notification: Notification,
        not_before: Timestamp,
    ) {
        self.enqueue_effect(Effect::Notify { notification, not_before, since: None });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::OtaState;
    use crate::id::DeviceId;

    fn effect(kind: u8, subject: u128, second: i64) -> Effect {
        let (id, at) = (Uuid::from_u128(subject), Timestamp::EPOCH.plus_seconds(second));
        let alert =
            Alert { alert_id: id, ..Alert::device_offline(&DeviceId::parse("m").unwrap(), at) };
        match kind {
            0 => Effect::OpenAlert { alert },
            1 => {
                let revision =
                    AlertRevision { state_version: 1, resolved_at: Some(at), message: None };
                Effect::ReviseAlert { alert_id: id, revision }
            }
            2 => Effect::RecordCommandAck {
                cmd_id: id,
                result: AckResult::Accepted,
                detail: None,
                at,
            },
            3 => {
                let ota = Ota {
                    state: OtaState::Downloading,
                    progress_pct: Some(second as f64),
                    fw_version_target: None,
                    detail: None,
                    updated_at: at,
                };
                Effect::AdvanceOta { cmd_id: id, ota }
            }
            4 => Effect::RepublishCommands { at },
            _ => {
                let notification = Notification::opened(&alert, at);
                Effect::Notify { notification, not_before: at, since: None }
            }
        }
    }

    proptest! {
        #[test]
        fn outbox_contains_one_effect_for_each_subject(
            effects in prop::collection::vec((0_u8..6, 0_u128..4, 0_i64..100), 0..300),
        ) {
            let mut outbox = Outbox::default();
            for (kind, subject, second) in &effects {
                outbox.enqueue(effect(*kind, *subject, *second));
            }
            for subject in 0..4 {
                let seconds = |kind| {
                    let of_kind = effects.iter().filter(move |e| (e.0, e.1) == (kind, subject));
                    of_kind.map(|e| e.2)
                };
                let queued = |expected: Option<(u8, i64)>| {
                    expected.is_none_or(|(kind, second)| outbox.contains(&effect(kind, subject, second)))
                };
                prop_assert!(queued(seconds(1).next_back().map(|second| (1, second))), "last revision");
                prop_assert!(queued(seconds(2).next().map(|second| (2, second))), "first ack");
                let id = Uuid::from_u128(subject);
                let count = |is_kind: fn(&Effect) -> Option<Uuid>| {
                    outbox.iter().filter(|effect| is_kind(effect) == Some(id)).count()
                };
                for is_kind in [
                    (|e| match e { Effect::ReviseAlert { alert_id, .. } => Some(*alert_id), _ => None })
                        as fn(&Effect) -> Option<Uuid>,
                    |e| match e { Effect::RecordCommandAck { cmd_id, .. } => Some(*cmd_id), _ => None },
                    |e| match e { Effect::AdvanceOta { cmd_id, .. } => Some(*cmd_id), _ => None },
                ] {
                    prop_assert!(count(is_kind) <= 1);
                }
                let progress = outbox.iter().find_map(|e| match e {
                    Effect::AdvanceOta { cmd_id, ota } if *cmd_id == id => ota.progress_pct,
                    _ => None,
                });
                prop_assert_eq!(progress, seconds(3).max().map(|second| second as f64));
            }
            let is_notification = |e: &&Effect| matches!(e, Effect::Notify { .. });
            prop_assert!(outbox.iter().filter(is_notification).count() <= MAX_QUEUED_NOTIFICATIONS);
            for (i, effect) in outbox.iter().enumerate() {
                prop_assert!(!outbox[..i].contains(effect));
            }
        }
    }

    #[test]
    fn failed_notification_is_retried_for_a_day() {
        let notify = effect(5, 1, 0);
        let at = |s| Timestamp::EPOCH.plus_seconds(s);
        let first = notify.reschedule(at(10)).unwrap();
        assert_eq!(first.not_before(), Some(at(10 + NOTIFICATION_RETRY_S)));
        let last = first.reschedule(at(9 + NOTIFICATION_MAX_AGE_S)).unwrap();
        assert_eq!(last.reschedule(at(10 + NOTIFICATION_MAX_AGE_S)), None);
    }
}
