//! Presence of a device (docs/adr/0010).
//!
//! Signals are ordered by receipt time. Device time is not usable, because the payload of a last
//! will is fixed when the device connects.
//!
//! Invariants: `since` is the receipt time of the signal that decided `connection`. An alert
//! without `resolved_at` is open.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::{HOUR_S, Timestamp};

/// Connection status of a device.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// The device has sent a message and did not go offline afterwards.
    Online,
    /// The device or its last will reported offline, IoT Core reported a disconnect, or the device
    /// is silent.
    Offline,
    /// The device has not sent a message, or the status was reset.
    #[default]
    Unknown,
}

impl Connection {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Online, Self::Offline, Self::Unknown];

    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|connection| connection.as_str() == text)
    }
}

/// Presence of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Connection status.
    pub connection: Connection,
    /// Receipt time of the signal that decided the status.
    pub since: Option<Timestamp>,
    /// Receipt time of the latest message.
    pub last_seen: Option<Timestamp>,
    /// Name of the connection that reported online, if the device sends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_id: Option<String>,
    /// Rank and receipt time of the latest lifecycle event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifecycle: Option<(u64, Timestamp)>,
    /// The latest offline alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<OfflineAlert>,
}

/// An alert for an offline device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineAlert {
    /// Id of the alert.
    pub alert_id: Uuid,
    /// Time at which the device came online.
    pub resolved_at: Option<Timestamp>,
}

/// Seconds after which IoT Core restarts the version number of lifecycle events of a disconnected
/// client.
const LIFECYCLE_RESET_S: i64 = HOUR_S;

/// A change of the connection status with consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionChange {
    /// The device went offline at this time.
    WentOffline(Timestamp),
    /// The device came online at this time.
    CameOnline(Timestamp),
}

impl Presence {
    /// Applies any message: activity after going offline sets online.
    pub(super) fn record_activity(&mut self, at: Timestamp) -> Option<ConnectionChange> {
        self.update_last_seen(at);
        if self.connection == Connection::Online || self.since.is_some_and(|since| at <= since) {
            return None;
        }
        self.set_connection(Connection::Online, at)
    }

    /// Applies `status: online` of a connection with an optional name.
    pub(super) fn online(
        &mut self,
        at: Timestamp,
        conn_id: Option<&str>,
    ) -> Option<ConnectionChange> {
        self.update_last_seen(at);
        // Two signals can have the same millisecond; then the order of processing decides.
        if self.since.is_some_and(|since| at < since) {
            return None;
        }
        self.conn_id = conn_id.map(str::to_owned);
        self.set_connection(Connection::Online, at)
    }

    /// Applies `status: offline`, sent by the device or as the last will of a connection with an
    /// optional name.
    pub(super) fn offline(
        &mut self,
        at: Timestamp,
        conn_id: Option<&str>,
    ) -> Option<ConnectionChange> {
        // Not activity: the broker publishes a last will long after the device disappeared.
        // Messages that were sent after it may be applied before it, because the queue is not
        // ordered.
        if self.since.max(self.last_seen).is_some_and(|later| at < later) {
            return None;
        }
        let differs = |(sent, known): (&str, &str)| sent != known;
        if self.connection == Connection::Online
            && conn_id.zip(self.conn_id.as_deref()).is_some_and(differs)
        {
            return None;
        }
        self.set_connection(Connection::Offline, at)
    }

    /// Applies a lifecycle event. Events are repeated and unordered, so their version decides,
    /// which increases with each connection; the end of a connection ranks above its start.
    pub(super) fn lifecycle(
        &mut self,
        at: Timestamp,
        connected: bool,
        version: u64,
    ) -> Option<ConnectionChange> {
        let rank = version.saturating_mul(2).saturating_add(u64::from(!connected));
        let is_stale = |(seen, since): (u64, Timestamp)| {
            rank <= seen && at <= since.plus_seconds(LIFECYCLE_RESET_S)
        };
        if self.lifecycle.is_some_and(is_stale) {
            return None;
        }
        self.lifecycle = Some((rank, at));
        if connected {
            // The event does not contain the name of the connection, but a status message may have.
            let conn_id = self.conn_id.clone();
            self.online(at, conn_id.as_deref())
        } else {
            self.offline(at, None)
        }
    }

    /// Sets offline if no message was received for `offline_timeout_s` seconds before `at`.
    pub(super) fn detect_offline(
        &mut self,
        at: Timestamp,
        offline_timeout_s: u32,
    ) -> Option<ConnectionChange> {
        let silent = self.offline_deadline(offline_timeout_s).is_some_and(|from| from <= at);
        let change = if silent { self.set_connection(Connection::Offline, at) } else { None };
        if change.is_some() {
            // The status applies from the last message on, so that a message that was received
            // after it and is applied later sets online.
            self.since = self.last_seen;
        }
        change
    }

    /// Time at which an online device will have been silent for `offline_timeout_s` seconds.
    pub(super) fn offline_deadline(&self, offline_timeout_s: u32) -> Option<Timestamp> {
        let last_seen = self.last_seen.filter(|_| self.connection == Connection::Online)?;
        Some(last_seen.plus_seconds(i64::from(offline_timeout_s)))
    }

    /// Resolves the open alert at `at` and returns its id.
    pub(super) fn resolve_alert(&mut self, at: Timestamp) -> Option<Uuid> {
        let alert = self.alert.as_mut().filter(|alert| alert.resolved_at.is_none())?;
        alert.resolved_at = Some(at);
        Some(alert.alert_id)
    }

    /// Reopens the latest alert if it is open, or ended less than `hold_down_s` seconds before
    /// `at`, and returns its id.
    pub(super) fn reopen_alert(&mut self, at: Timestamp, hold_down_s: u32) -> Option<Uuid> {
        let alert = self.alert.as_mut()?;
        let within_hold_down = |end: Timestamp| at < end.plus_seconds(i64::from(hold_down_s));
        if !alert.resolved_at.is_none_or(within_hold_down) {
            return None;
        }
        alert.resolved_at = None;
        Some(alert.alert_id)
    }

    /// Resets the status to unknown.
    pub(super) fn reset_to_unknown(&mut self, at: Timestamp) -> Option<ConnectionChange> {
        self.conn_id = None;
        self.set_connection(Connection::Unknown, at)
    }

    fn update_last_seen(&mut self, at: Timestamp) {
        self.last_seen = self.last_seen.max(Some(at));
    }

    fn set_connection(&mut self, to: Connection, at: Timestamp) -> Option<ConnectionChange> {
        let from = std::mem::replace(&mut self.connection, to);
        self.since = Some(at);
        match (from, to) {
            (Connection::Offline, Connection::Offline) => None,
            (_, Connection::Offline) => Some(ConnectionChange::WentOffline(at)),
            (Connection::Online, Connection::Online) | (_, Connection::Unknown) => None,
            (_, Connection::Online) => Some(ConnectionChange::CameOnline(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn signal_with_the_latest_receipt_decides_in_any_order(
            signals in prop::collection::btree_map(0_i64..1_000, any::<bool>(), 1..30),
            order in prop::collection::vec(any::<u32>(), 30),
        ) {
            let at = |s: i64| Timestamp::EPOCH.plus_seconds(s);
            let mut shuffled: Vec<_> = order.into_iter().zip(&signals).collect();
            shuffled.sort_unstable();
            let mut presence = Presence::default();
            for (_, (second, is_activity)) in shuffled {
                let change = match is_activity {
                    true => presence.record_activity(at(*second)),
                    false => presence.offline(at(*second), None),
                };
                let expected = match change {
                    Some(ConnectionChange::CameOnline(_)) => Some(Connection::Online),
                    Some(ConnectionChange::WentOffline(_)) => Some(Connection::Offline),
                    None => None,
                };
                prop_assert!(expected.is_none_or(|expected| presence.connection == expected));
            }
            let (second, is_activity) = signals.last_key_value().unwrap();
            let expected = if *is_activity { Connection::Online } else { Connection::Offline };
            prop_assert_eq!(presence.connection, expected);
            prop_assert!(*is_activity || presence.since == Some(at(*second)));
            let activities = signals.iter().filter(|(_, is_activity)| **is_activity);
            prop_assert_eq!(presence.last_seen, activities.map(|(s, _)| at(*s)).max());
        }
    }
}
