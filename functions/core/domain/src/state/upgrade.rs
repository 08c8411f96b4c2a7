//! The firmware upgrade of a device (docs/protocol.md, "Firmware upgrade").
//!
//! Invariants: only the upgrade with the greatest command id is kept. It completes when `success`
//! was received and a hello message with its target version was received at the same time or later,
//! in any order of processing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect};
use crate::command::{Ota, OtaState};
use crate::time::Timestamp;

/// A firmware upgrade that is in progress, or that succeeded and waits for a hello message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Id of the `start_ota` command.
    pub cmd_id: Uuid,
    /// Target version as reported by the device or, until then, as in the command.
    pub target: Option<String>,
    /// Receipt time of the first `success`. A hello message with the target version completes the
    /// upgrade.
    #[serde(default)]
    pub succeeded_at: Option<Timestamp>,
}

impl DeviceState {
    /// Completes an upgrade that succeeded, if `fw_version` is its target.
    pub(super) fn complete_upgrade(&mut self, fw_version: &str, at: Timestamp) {
        let complete = |upgrade: &Upgrade| {
            upgrade.succeeded_at.is_some() && upgrade.target.as_deref() == Some(fw_version)
        };
        if let Some(done) = self.upgrade.take_if(|upgrade| complete(upgrade)) {
            let ota = Ota {
                state: OtaState::Completed,
                progress_pct: Some(100.0),
                fw_version_target: done.target,
                detail: None,
                updated_at: at,
            };
            self.enqueue_effect(Effect::AdvanceOta { cmd_id: done.cmd_id, ota });
        }
    }

    /// Applies a report of progress.
    pub(super) fn apply_ota(&mut self, cmd_id: Uuid, ota: Ota) {
        let upgrade = match &mut self.upgrade {
            Some(upgrade) if upgrade.cmd_id == cmd_id => upgrade,
            // Command ids sort by time: the report belongs to an upgrade before the current one.
            Some(upgrade) if upgrade.cmd_id > cmd_id => {
                return self.enqueue_effect(Effect::AdvanceOta { cmd_id, ota });
            }
            other => other.insert(Upgrade { cmd_id, target: None, succeeded_at: None }),
        };
        if ota.fw_version_target.is_some() {
            upgrade.target.clone_from(&ota.fw_version_target);
        }
        if ota.state == OtaState::Success {
            let at = ota.updated_at;
            upgrade.succeeded_at = Some(upgrade.succeeded_at.map_or(at, |first| first.min(at)));
        }
        self.enqueue_effect(Effect::AdvanceOta { cmd_id, ota });
        self.complete_upgrade_from_last_hello();
    }

    /// Completes an upgrade with a hello message that was applied before the report of success,
    /// because the queue is not ordered.
    fn complete_upgrade_from_last_hello(&mut self) {
        let succeeded_at = self.upgrade.as_ref().and_then(|upgrade| upgrade.succeeded_at);
        if let (Some(at), Some((hello_at, hello))) = (succeeded_at, self.hello.clone())
            && hello_at >= at
        {
            self.complete_upgrade(&hello.fw_version, hello_at);
        }
    }

    /// Whether the current upgrade belongs to this command and the device did not report a target.
    pub fn lacks_target(&self, cmd_id: Uuid) -> bool {
        let lacks = |upgrade: &Upgrade| upgrade.cmd_id == cmd_id && upgrade.target.is_none();
        self.upgrade.as_ref().is_some_and(lacks)
    }

    /// Sets the target of an upgrade from its command, for a device that does not report one.
    pub fn set_upgrade_target(
        &mut self,
        cmd_id: Uuid,
        target: &str,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        if !self.lacks_target(cmd_id) {
            return;
        }
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.target = Some(target.to_owned());
        }
        self.complete_upgrade_from_last_hello();
        self.schedule_check(now, policy);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::fixtures::{CMD, POLICY, after, hello, message, ota};

    #[test]
    fn hello_processed_before_success_completes_the_upgrade() {
        let mut state = after(&[ota(1, "applying")]);
        state.apply(&[&hello(5, "2.0.0")], &POLICY);
        state.apply(&[&ota(4, "success")], &POLICY);
        let completed = |e: &Effect| matches!(e, Effect::AdvanceOta { ota, .. } if ota.state == OtaState::Completed);
        assert!(state.outbox.iter().any(completed), "{:?}", state.outbox);
    }

    #[test]
    fn hello_with_target_version_after_success_completes_the_upgrade() {
        let completed = |state: &DeviceState| {
            state.outbox.iter().any(
                |e| matches!(e, Effect::AdvanceOta { ota, .. } if ota.state == OtaState::Completed),
            )
        };
        assert!(completed(&after(&[ota(1, "success"), hello(2, "2.0.0")])));
        assert!(!completed(&after(&[ota(1, "success"), hello(2, "1.0.0")])));
        assert!(!completed(&after(&[ota(1, "applying"), hello(2, "2.0.0")])));
        assert_eq!(
            after(&[hello(2, "2.0.0"), hello(1, "1.0.0")]).fw_version.as_deref(),
            Some("2.0.0")
        );
    }

    #[test]
    fn repeated_acknowledgements_are_one_effect() {
        let answers: Vec<_> = (0..1_000)
            .map(|s| {
                let detail = format!("{s}");
                message(
                    s,
                    "command/ack",
                    json!({"cmd_id": CMD, "result": "accepted", "detail": detail}),
                )
            })
            .chain(
                (1_000..2_000)
                    .map(|s| ota(s, if s == 1_500 { "verifying" } else { "downloading" })),
            )
            .collect();
        let state = after(&answers);
        assert_eq!(
            state.outbox.len(),
            3,
            "acknowledgement, progress and republish: {:?}",
            state.outbox
        );
        let verifying = |e: &Effect| matches!(e, Effect::AdvanceOta { ota, .. } if ota.state == OtaState::Verifying);
        assert!(state.outbox.iter().any(verifying));
    }
}
