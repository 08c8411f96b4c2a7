//! What people are to be told, as effects that wait in the outbox.
//!
//! The end of an alert is told when its hold-down is over: until then it may be reopened, and then nobody is told
//! either. So whoever is told hears of openings and ends in turn, however a device flaps.

use uuid::Uuid;

use super::{DeviceState, Effect, Notify, Rules};
use crate::alert::{Alert, Severity};
use crate::notice::{Notice, NoticeEvent};
use crate::time::Timestamp;

/// Notices that wait at most; the topic may be away for hours, and a state ends at 400 KB.
const MAX_WAITING: usize = 40;

/// How long a notice that cannot be sent waits for the next try, in seconds.
const RETRY_S: i64 = 60;

/// How long a notice is tried, in seconds: later than that it is no news.
const NEWS_S: i64 = 24 * 3600;

impl DeviceState {
    /// An alert that the platform itself raises began at `at`.
    pub(super) fn tell_of_device(&mut self, alert: &Alert, at: Timestamp, rules: &Rules) {
        if rules.notify == Notify::All {
            self.tell(Notice::opened(alert, at), at);
        }
    }

    /// Such an alert ended at `at`; it is told of `later` seconds later, if it is not reopened until then.
    pub(super) fn tell_end(
        &mut self,
        (alert_id, alert_type): (Uuid, &str),
        (at, later): (Timestamp, u32),
        message: String,
        rules: &Rules,
    ) {
        if rules.notify == Notify::All {
            let notice = Notice {
                alert_id,
                device_id: self.device_id.clone(),
                alert_type: alert_type.to_owned(),
                severity: Severity::Warning,
                event: NoticeEvent::Resolved,
                at,
                message,
            };
            self.tell(notice, at.plus_seconds(i64::from(later)));
        }
    }

    /// People are told something, from `not_before` on.
    pub(super) fn tell(&mut self, notice: Notice, not_before: Timestamp) {
        let is_notice = |effect: &Effect| matches!(effect, Effect::Notify { .. });
        if self.outbox.iter().filter(|effect| is_notice(effect)).count() >= MAX_WAITING {
            let oldest = self.outbox.iter().position(is_notice);
            let lost = oldest.map(|oldest| self.outbox.remove(oldest));
            tracing::error!(?lost, "too many notices wait; the oldest is never sent");
        }
        self.leave(Effect::Notify { notice, not_before, since: None });
    }

    /// Nobody is told of an end that was none. False: they know of it already.
    pub(super) fn take_back_end(&mut self, id: Uuid) -> bool {
        let waiting = self.outbox.len();
        self.outbox.retain(|effect| {
            !matches!(effect, Effect::Notify { notice, .. }
                if notice.alert_id == id && notice.event == NoticeEvent::Resolved)
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
    pub fn put_off(&self, now: Timestamp) -> Option<Self> {
        match self {
            Self::Notify { since: Some(since), .. } if since.plus_seconds(NEWS_S) <= now => None,
            Self::Notify { notice, since, .. } => Some(Self::Notify {
                notice: notice.clone(),
                not_before: now.plus_seconds(RETRY_S),
                since: since.or(Some(now)),
            }),
            other => Some(other.clone()),
        }
    }
}
