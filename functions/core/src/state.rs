//! What is known of a device from what it said: a pure function of its messages.
//!
//! One row a device, written under a version by whoever handles its messages (architecture.md,
//! decision 3c). Effects on other nouns leave through the [`DeviceState::outbox`] of the same write,
//! with ids derived from their cause, so that a crash neither loses nor doubles one.

mod presence;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::presence::{Connection, Presence};
use crate::alert::Alert;
use crate::command::{AckResult, Ota};
use crate::id::DeviceId;
use crate::message::Hello;
use crate::metric::{MetricName, Point};
use crate::sequence::Sequence;
use crate::time::Timestamp;

/// Everything that is known of a device but the owner's words, which are in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Whose.
    pub device_id: DeviceId,
    /// Counts writes of this row; 0: never written. A write names the version that it read.
    #[serde(skip)]
    pub version: u64,
    /// Whether the registry has a row. Set in the transactions that register and delete.
    pub registered: bool,
    /// Whether it is there.
    pub presence: Presence,
    /// Its power-ons and what was seen of each.
    #[serde(default)]
    pub sequence: Sequence,
    /// The newest heartbeat, by receipt, and when that was.
    #[serde(default)]
    pub hello: Option<(Timestamp, Hello)>,
    /// The firmware as last told, by a heartbeat or over REST.
    #[serde(default)]
    pub fw_version: Option<String>,
    /// The newest point of each metric by its own time; also the set of metrics that the device has.
    #[serde(default)]
    pub latest: BTreeMap<MetricName, Point>,
    /// Samples that were not stored as metrics because the device has too many different ones.
    #[serde(default)]
    pub metrics_refused: u64,
    /// What must still be done elsewhere because of this state, in order.
    #[serde(default)]
    pub outbox: Vec<Effect>,
}

/// Something that must happen elsewhere, any number of times to the same end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Raise this alert.
    OpenAlert {
        /// The whole alert; its id is derived from its cause.
        alert: Alert,
    },
    /// The cause of an alert has ended.
    ResolveAlert {
        /// Which.
        alert_id: Uuid,
        /// When it ended.
        at: Timestamp,
    },
    /// A device answered a command.
    FinishCommand {
        /// Which.
        cmd_id: Uuid,
        /// Its answer.
        result: AckResult,
        /// Its words.
        detail: Option<String>,
        /// When the answer was received.
        at: Timestamp,
    },
    /// A firmware upgrade went on.
    AdvanceOta {
        /// Of which command.
        cmd_id: Uuid,
        /// How far.
        ota: Ota,
    },
    /// A heartbeat told of firmware: an upgrade to it that said `success` is complete.
    ConfirmFirmware {
        /// The firmware that runs.
        fw_version: String,
        /// When that was received.
        at: Timestamp,
    },
}

impl DeviceState {
    /// What is known of a device that was never heard.
    pub fn new(device_id: DeviceId) -> Self {
        Self {
            device_id,
            version: 0,
            registered: false,
            presence: Presence::default(),
            sequence: Sequence::default(),
            hello: None,
            fw_version: None,
            latest: BTreeMap::new(),
            metrics_refused: 0,
            outbox: Vec::new(),
        }
    }
}
