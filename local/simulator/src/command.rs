//! Commands: parsing, the decision of the device, and the log of acknowledgements. Pure;
//! [`crate::device`] executes the decision.

use std::collections::VecDeque;

use jiff::Timestamp;
use semver::Version;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::Configuration;

/// The result in an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AckResult {
    /// The command is or was executed.
    Accepted,
    /// The command is invalid or cannot be executed now.
    Rejected,
    /// The command is unknown.
    Unsupported,
}

/// A received command.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The id that the acknowledgement contains.
    pub cmd_id: Uuid,
    /// From this time on the command must not be executed.
    pub expires_at: Option<Timestamp>,
    cmd: String,
    /// The parameters, or the reason why the command is invalid.
    params: Result<Map<String, Value>, &'static str>,
}

impl Command {
    /// Parses a payload; `None` if it contains no id to acknowledge.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(payload).ok()?;
        let cmd_id = value.get("cmd_id")?.as_str()?.parse().ok()?;
        let mut params = match value.get("params") {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(params)) => Ok(params.clone()),
            Some(_) => Err("params: must be an object"),
        };
        if value.get("v").and_then(Value::as_u64) != Some(2) {
            params = Err("v: must be 2");
        }
        let expires_at = match value.get("expires_at") {
            None | Some(Value::Null) => None,
            Some(text) => {
                let parsed = text.as_str().and_then(|text| text.parse().ok());
                if parsed.is_none() {
                    params = Err("expires_at: must be an RFC 3339 date");
                }
                parsed
            }
        };
        let cmd = value.get("cmd").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self { cmd_id, expires_at, cmd, params })
    }

    /// Whether the command has expired.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expiry| expiry <= now)
    }

    /// The name of the command; empty if the payload contains none.
    pub fn name(&self) -> &str {
        &self.cmd
    }
}

/// The decision of a device about a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The reply.
    pub acknowledgement: Acknowledgement,
    /// The action of an accepted command.
    pub action: Option<Action>,
}

/// The body of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Accepted, rejected or unsupported.
    pub result: AckResult,
    /// The reason of a refusal.
    pub detail: Option<String>,
}

/// The action of an accepted command.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Applies a configuration.
    Configure(Configuration),
    /// Upgrades the firmware.
    Upgrade(Version),
    /// Restarts.
    Reboot,
    /// Restores the initial configuration and restarts.
    FactoryReset,
    /// Sends a heartbeat.
    SendHello,
}

impl Decision {
    fn accept(action: Action) -> Self {
        Self {
            acknowledgement: Acknowledgement { result: AckResult::Accepted, detail: None },
            action: Some(action),
        }
    }

    fn reject(result: AckResult, why: impl ToString) -> Self {
        Self {
            acknowledgement: Acknowledgement { result, detail: Some(why.to_string()) },
            action: None,
        }
    }
}

/// Decides about a command, given the current configuration and the upgrade in progress.
pub fn decide(command: &Command, config: &Configuration, upgrading: Option<&Version>) -> Decision {
    let params = match &command.params {
        Ok(params) => params,
        Err(why) => return Decision::reject(AckResult::Rejected, why),
    };
    match command.cmd.as_str() {
        "update_config" => match config.updated(params) {
            Ok(next) => Decision::accept(Action::Configure(next)),
            Err(why) => Decision::reject(AckResult::Rejected, why),
        },
        "start_ota" => match (upgrading, ota_target(params)) {
            (Some(target), _) => Decision::reject(
                AckResult::Rejected,
                format!("the upgrade to {target} is still in progress"),
            ),
            (None, Ok(target)) => Decision::accept(Action::Upgrade(target)),
            (None, Err(why)) => Decision::reject(AckResult::Rejected, why),
        },
        "reboot" => Decision::accept(Action::Reboot),
        "factory_reset" => Decision::accept(Action::FactoryReset),
        "request_status" => Decision::accept(Action::SendHello),
        "" => Decision::reject(AckResult::Rejected, "cmd: must be the name of a command"),
        other => Decision::reject(AckResult::Unsupported, format!("unknown command {other:?}")),
    }
}

/// The version of `start_ota`, if all of its parameters are valid.
fn ota_target(params: &Map<String, Value>) -> Result<Version, &'static str> {
    let text = |name| params.get(name).and_then(Value::as_str).unwrap_or_default();
    let version =
        Version::parse(text("fw_version")).map_err(|_| "fw_version: must be a semantic version")?;
    if !text("fw_url").starts_with("https://") {
        return Err("fw_url: must begin with https://");
    }
    let digest = text("fw_sha256");
    if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("fw_sha256: must be 64 hex digits");
    }
    let size = params.get("fw_size_bytes").and_then(Value::as_u64);
    if size.unwrap_or(0) == 0 {
        return Err("fw_size_bytes: must be a positive integer");
    }
    Ok(version)
}

/// The commands answered last. QoS 1 may deliver one twice, and the platform publishes again what
/// was not answered: the answer is repeated, the deed is not.
#[derive(Debug, Clone, Default)]
pub struct CommandLog {
    entries: VecDeque<(Uuid, Acknowledgement)>,
}

impl CommandLog {
    /// The number of acknowledgements that a device keeps.
    pub const CAPACITY: usize = 64;

    /// What was answered to this command.
    pub fn acknowledgement(&self, cmd_id: Uuid) -> Option<&Acknowledgement> {
        self.entries
            .iter()
            .find(|(id, _)| *id == cmd_id)
            .map(|(_, acknowledgement)| acknowledgement)
    }

    /// Records an acknowledgement, and removes the oldest beyond [`CommandLog::CAPACITY`].
    pub fn record(&mut self, cmd_id: Uuid, acknowledgement: Acknowledgement) {
        if self.entries.len() == Self::CAPACITY {
            self.entries.pop_front();
        }
        self.entries.push_back((cmd_id, acknowledgement));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn config() -> Configuration {
        Configuration::with_broker("127.0.0.1:1883".parse().unwrap())
    }

    fn command(cmd: &str, params: Value) -> Command {
        let cmd_id = Uuid::from_u128(1);
        let text = json!({"v": 2, "cmd_id": cmd_id, "cmd": cmd, "params": params}).to_string();
        Command::parse(text.as_bytes()).unwrap()
    }

    fn ota(change: impl FnOnce(&mut Value)) -> Command {
        let mut params = json!({
            "fw_version": "2.1.0", "fw_url": "https://firmware.example/2.1.0",
            "fw_sha256": "ab".repeat(32), "fw_size_bytes": 1_024,
        });
        change(&mut params);
        command("start_ota", params)
    }

    fn refused(command: &Command, result: AckResult) -> String {
        let decision = decide(command, &config(), None);
        assert_eq!(decision.acknowledgement.result, result, "{command:?}");
        assert_eq!(decision.action, None);
        decision.acknowledgement.detail.expect("no detail")
    }

    #[test]
    fn each_command_is_accepted_with_its_action() {
        for (cmd, action) in [
            ("reboot", Action::Reboot),
            ("factory_reset", Action::FactoryReset),
            ("request_status", Action::SendHello),
        ] {
            assert_eq!(decide(&command(cmd, json!({})), &config(), None), Decision::accept(action));
        }
        let mut next = config();
        next.send_interval_s = 5;
        let update = command("update_config", json!({"send_interval_s": 5}));
        assert_eq!(decide(&update, &config(), None), Decision::accept(Action::Configure(next)));
        let upgrade = Decision::accept(Action::Upgrade(Version::new(2, 1, 0)));
        assert_eq!(decide(&ota(|_| {}), &config(), None), upgrade);
    }

    #[test]
    fn invalid_parameter_is_rejected_with_its_name() {
        let update = command("update_config", json!({"send_interval_s": 0}));
        assert!(refused(&update, AckResult::Rejected).starts_with("send_interval_s:"));
        let bad: [(&str, Value); 4] = [
            ("fw_version", json!("2.1")),
            ("fw_url", json!("http://firmware.example")),
            ("fw_sha256", json!("xy")),
            ("fw_size_bytes", json!(0)),
        ];
        for (name, value) in bad {
            let upgrade = ota(|params| params[name] = value);
            assert!(refused(&upgrade, AckResult::Rejected).starts_with(name));
        }
        assert!(refused(&command("reboot", json!(3)), AckResult::Rejected).starts_with("params:"));
    }

    #[test]
    fn unknown_command_is_unsupported() {
        let detail = refused(&command("self_destruct", json!({})), AckResult::Unsupported);
        assert!(detail.contains("self_destruct"));
    }

    #[test]
    fn second_upgrade_is_rejected_during_the_first() {
        let decision = decide(&ota(|_| {}), &config(), Some(&Version::new(9, 0, 0)));
        assert_eq!(decision.acknowledgement.result, AckResult::Rejected);
        assert!(decision.acknowledgement.detail.unwrap().contains("9.0.0"));
    }

    #[test]
    fn command_expires_at_expires_at() {
        let text = json!({
            "v": 2, "cmd_id": Uuid::nil(), "cmd": "reboot", "expires_at": "2026-01-01T12:00:00Z",
        })
        .to_string();
        let command = Command::parse(text.as_bytes()).unwrap();
        assert!(!command.has_expired("2026-01-01T11:59:59Z".parse().unwrap()));
        assert!(command.has_expired("2026-01-01T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn invalid_expiry_is_rejected() {
        let text = json!({"v": 2, "cmd_id": Uuid::nil(), "cmd": "reboot", "expires_at": "soon"});
        let command = Command::parse(text.to_string().as_bytes()).unwrap();
        assert!(refused(&command, AckResult::Rejected).starts_with("expires_at:"));
    }

    #[test]
    fn log_keeps_only_the_latest_acknowledgements() {
        let mut log = CommandLog::default();
        let acknowledgement = Acknowledgement { result: AckResult::Accepted, detail: None };
        for n in 0..=CommandLog::CAPACITY {
            log.record(Uuid::from_u128(n as u128), acknowledgement.clone());
        }
        assert_eq!(log.acknowledgement(Uuid::from_u128(0)), None);
        assert_eq!(log.acknowledgement(Uuid::from_u128(1)), Some(&acknowledgement));
        assert_eq!(
            log.acknowledgement(Uuid::from_u128(CommandLog::CAPACITY as u128)),
            Some(&acknowledgement)
        );
    }

    proptest! {
        #[test]
        fn parser_never_panics(payload: Vec<u8>) {
            let _ = Command::parse(&payload);
        }

        #[test]
        fn command_without_valid_id_is_not_parsed(cmd_id in "[a-z0-9-]{0,30}") {
            let text = json!({"v": 2, "cmd_id": cmd_id, "cmd": "reboot"}).to_string();
            prop_assert_eq!(Command::parse(text.as_bytes()), None);
        }
    }
}
