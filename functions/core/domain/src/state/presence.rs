//! Presence: is the device there? Signals are ordered by receipt, never by the device's clock,
//! because a last will's payload is fixed when the device connects (docs/adr/0010).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// The answer.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// It has spoken and has not gone since.
    Online,
    /// It said goodbye, its last will was published, or it is silent.
    Offline,
    /// It was never heard.
    #[default]
    Unknown,
}

impl Connection {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Online, Self::Offline, Self::Unknown];

    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|connection| connection.as_str() == text)
    }
}

/// What is known of a device's presence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether it is there.
    pub connection: Connection,
    /// Receipt of the signal that decided so.
    pub since: Option<Timestamp>,
    /// Receipt of the latest message of any kind.
    pub last_seen: Option<Timestamp>,
    /// Which connection said online, when the device names its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_id: Option<String>,
    /// The rank of the latest lifecycle event, and its receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifecycle: Option<(u64, Timestamp)>,
    /// The latest alert for its being gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<OfflineAlert>,
}

/// An alert for a device that is, or was, gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineAlert {
    /// Which.
    pub alert_id: Uuid,
    /// When the device came back.
    pub resolved_at: Option<Timestamp>,
}

/// IoT Core counts a client's connections anew when it has been away for an hour; seconds.
const LIFECYCLE_RESET_S: i64 = 3_600;

/// What a signal changed that others must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionChange {
    /// It was there, and is gone since.
    WentOffline(Timestamp),
    /// It is there since.
    CameOnline(Timestamp),
}

impl Presence {
    /// Any message: a device that speaks after it went is back.
    pub(super) fn record_activity(&mut self, at: Timestamp) -> Option<ConnectionChange> {
        self.update_last_seen(at);
        if self.connection == Connection::Online || self.since.is_some_and(|since| at <= since) {
            return None;
        }
        self.set_connection(Connection::Online, at)
    }

    /// `status: online`, of a connection that may have a name.
    pub(super) fn online(
        &mut self,
        at: Timestamp,
        conn_id: Option<&str>,
    ) -> Option<ConnectionChange> {
        self.update_last_seen(at);
        // Two signals of one millisecond: the later one handled is the later one sent.
        if self.since.is_some_and(|since| at < since) {
            return None;
        }
        self.conn_id = conn_id.map(str::to_owned);
        self.set_connection(Connection::Online, at)
    }

    /// `status: offline`: a goodbye, or the last will of a connection that may have a name.
    pub(super) fn offline(
        &mut self,
        at: Timestamp,
        conn_id: Option<&str>,
    ) -> Option<ConnectionChange> {
        // Not a sign of life: the broker publishes a last will long after the device is gone. And what the
        // device said after it may have been handled before it, since a queue keeps no order.
        if self.since.max(self.last_seen).is_some_and(|later| at < later) {
            return None;
        }
        let another = |(theirs, ours): (&str, &str)| theirs != ours;
        if self.connection == Connection::Online
            && conn_id.zip(self.conn_id.as_deref()).is_some_and(another)
        {
            return None;
        }
        self.set_connection(Connection::Offline, at)
    }

    /// An event of IoT Core about the client's connection. They come twice and in any order, so the
    /// version, which grows from connection to connection, decides; a connection ends after it begins.
    pub(super) fn lifecycle(
        &mut self,
        at: Timestamp,
        connected: bool,
        version: u64,
    ) -> Option<ConnectionChange> {
        let rank = version.saturating_mul(2).saturating_add(u64::from(!connected));
        let stale = |(seen, since): (u64, Timestamp)| {
            rank <= seen && at <= since.plus_seconds(LIFECYCLE_RESET_S)
        };
        if self.lifecycle.is_some_and(stale) {
            return None;
        }
        self.lifecycle = Some((rank, at));
        if connected {
            // The event does not name the connection; the device may have done so.
            let conn_id = self.conn_id.clone();
            self.online(at, conn_id.as_deref())
        } else {
            self.offline(at, None)
        }
    }

    /// Nothing was heard for as long as `offline_timeout_s` seconds before `at`.
    pub(super) fn detect_offline(
        &mut self,
        at: Timestamp,
        offline_timeout_s: u32,
    ) -> Option<ConnectionChange> {
        let silent = self.offline_deadline(offline_timeout_s).is_some_and(|from| from <= at);
        let change = if silent { self.set_connection(Connection::Offline, at) } else { None };
        if change.is_some() {
            // It is gone since its last word: one that was received after it, and is handled only now,
            // brings it back.
            self.since = self.last_seen;
        }
        change
    }

    /// When a device that is online will have been silent for `offline_timeout_s` seconds.
    pub(super) fn offline_deadline(&self, offline_timeout_s: u32) -> Option<Timestamp> {
        let heard = self.last_seen.filter(|_| self.connection == Connection::Online)?;
        Some(heard.plus_seconds(i64::from(offline_timeout_s)))
    }

    /// The open alert, which ends at `at`.
    pub(super) fn resolve_alert(&mut self, at: Timestamp) -> Option<Uuid> {
        let alert = self.alert.as_mut().filter(|alert| alert.resolved_at.is_none())?;
        alert.resolved_at = Some(at);
        Some(alert.alert_id)
    }

    /// The latest alert, if it is open, or ended no longer than `hold_down_s` seconds before `at`.
    pub(super) fn reopen_alert(&mut self, at: Timestamp, hold_down_s: u32) -> Option<Uuid> {
        let alert = self.alert.as_mut()?;
        let held = |end: Timestamp| at < end.plus_seconds(i64::from(hold_down_s));
        if !alert.resolved_at.is_none_or(held) {
            return None;
        }
        alert.resolved_at = None;
        Some(alert.alert_id)
    }

    /// Nobody knows any more.
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
