//! Presence: is the device there? Signals are ordered by receipt, never by the device's clock,
//! because a last will's payload is fixed when the device connects (protocol.md, Presence).

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
    pub fn as_str(self) -> &'static str {
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
    /// The alert that is open because it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_alert: Option<Uuid>,
}

/// What a signal changed that others must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It was there, and is gone since.
    WentOffline(Timestamp),
    /// It was gone, and is back since.
    CameBack(Timestamp),
}

impl Presence {
    /// Any message: a device that speaks after it went is back.
    pub(super) fn heard(&mut self, at: Timestamp) -> Option<Change> {
        self.seen(at);
        if self.connection == Connection::Online || self.since.is_some_and(|since| at <= since) {
            return None;
        }
        self.turn(Connection::Online, at)
    }

    /// `status: online`, of a connection that may have a name.
    pub(super) fn online(&mut self, at: Timestamp, conn_id: Option<&str>) -> Option<Change> {
        self.seen(at);
        // Two signals of one millisecond: the later one handled is the later one sent.
        if self.since.is_some_and(|since| at < since) {
            return None;
        }
        self.conn_id = conn_id.map(str::to_owned);
        self.turn(Connection::Online, at)
    }

    /// `status: offline`: a goodbye, or the last will of a connection that may have a name.
    pub(super) fn offline(&mut self, at: Timestamp, conn_id: Option<&str>) -> Option<Change> {
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
        self.turn(Connection::Offline, at)
    }

    /// Nobody knows any more.
    pub(super) fn forget(&mut self, at: Timestamp) -> Option<Change> {
        self.conn_id = None;
        self.turn(Connection::Unknown, at)
    }

    fn seen(&mut self, at: Timestamp) {
        self.last_seen = self.last_seen.max(Some(at));
    }

    fn turn(&mut self, to: Connection, at: Timestamp) -> Option<Change> {
        let from = std::mem::replace(&mut self.connection, to);
        self.since = Some(at);
        match (from, to) {
            (Connection::Offline, Connection::Offline) => None,
            (_, Connection::Offline) => Some(Change::WentOffline(at)),
            (Connection::Offline, _) => Some(Change::CameBack(at)),
            _ => None,
        }
    }
}
