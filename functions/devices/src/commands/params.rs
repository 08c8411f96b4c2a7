//! Validation of the parameters of each command (docs/protocol.md).

use meter_domain::command::CommandKind;
use meter_http::Problem;
use meter_http::fields::Fields;
use serde_json::{Map, Value};

const CONFIG: [&str; 4] = ["sampling_cadence_ms", "send_interval_s", "hello_interval_s", "brokers"];
const MAX_BROKERS: usize = 5;
/// The longest DNS name, in characters.
const MAX_HOST: usize = 253;

const OTA: [&str; 4] = ["fw_version", "fw_url", "fw_sha256", "fw_size_bytes"];
/// The longest text of an upgrade in characters, a URL that web servers accept.
const MAX_TEXT: usize = 2_048;

/// Checks the parameters of a command; the failure names the field by its path.
pub(super) fn check(kind: CommandKind, params: &Map<String, Value>) -> Result<(), Problem> {
    let fields = Fields::nested("params", params);
    match kind {
        CommandKind::UpdateConfig => update_config(&fields, params),
        CommandKind::StartOta => start_ota(&fields),
        CommandKind::Reboot | CommandKind::FactoryReset | CommandKind::RequestStatus => {
            fields.deny_unknown(&[])
        }
    }
}

fn update_config(fields: &Fields<'_>, params: &Map<String, Value>) -> Result<(), Problem> {
    fields.deny_unknown(&CONFIG)?;
    if params.is_empty() {
        let reason = format!("must have at least one of {}", CONFIG.join(", "));
        return Err(Problem::field("params", reason));
    }
    // A device cannot apply a null.
    if let Some((name, _)) = params.iter().find(|(_, value)| value.is_null()) {
        return Err(fields.invalid(name, "must not be null"));
    }
    fields.integer("sampling_cadence_ms", 100..=60_000)?;
    fields.integer("send_interval_s", 1..=3_600)?;
    fields.integer("hello_interval_s", 5..=3_600)?;
    match fields.get("brokers") {
        None => Ok(()),
        Some(Value::Array(list)) if (1..=MAX_BROKERS).contains(&list.len()) => {
            list.iter().enumerate().try_for_each(|(i, item)| broker(i, item))
        }
        Some(_) => {
            let reason = format!("must be a list of 1 to {MAX_BROKERS} of {{host, port}}");
            Err(fields.invalid("brokers", reason))
        }
    }
}

fn broker(index: usize, item: &Value) -> Result<(), Problem> {
    let path = format!("params.brokers[{index}]");
    let Value::Object(object) = item else {
        return Err(Problem::field(path, "must be an object of host and port"));
    };
    let fields = Fields::nested(&path, object);
    fields.deny_unknown(&["host", "port"])?;
    fields.required_string("host", 1..=MAX_HOST)?;
    required(&fields, "port")?;
    fields.integer("port", 1..=65_535)?;
    Ok(())
}

fn start_ota(fields: &Fields<'_>) -> Result<(), Problem> {
    fields.deny_unknown(&OTA)?;
    let fw_version = fields.required_string("fw_version", 1..=MAX_TEXT)?;
    if semver::Version::parse(fw_version).is_err() {
        return Err(fields.invalid("fw_version", "must be a semantic version, like 1.2.3"));
    }
    let fw_url = fields.required_string("fw_url", 1..=MAX_TEXT)?;
    if !is_https(fw_url) {
        return Err(fields.invalid("fw_url", "must be an https URL"));
    }
    let fw_sha256 = fields.required_string("fw_sha256", 0..=MAX_TEXT)?;
    if fw_sha256.len() != 64 || !fw_sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(fields.invalid("fw_sha256", "must be 64 hex digits"));
    }
    required(fields, "fw_size_bytes")?;
    // A device may parse numbers as doubles, which have no larger exact integers.
    fields.integer("fw_size_bytes", 1..=9_007_199_254_740_991)?;
    Ok(())
}

fn is_https(text: &str) -> bool {
    meter_http::Uri::try_from(text).is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn required(fields: &Fields<'_>, name: &str) -> Result<(), Problem> {
    match fields.get(name) {
        Some(_) => Ok(()),
        None => Err(fields.invalid(name, "is missing")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn checked(kind: CommandKind, params: &Value) -> Result<(), String> {
        check(kind, params.as_object().unwrap()).map_err(|problem| problem.detail)
    }

    #[test]
    fn parameters_of_the_protocol_are_valid() {
        let sha = "aB".repeat(32);
        for (kind, params) in [
            (CommandKind::UpdateConfig, json!({"sampling_cadence_ms": 100})),
            (
                CommandKind::UpdateConfig,
                json!({"sampling_cadence_ms": 60_000, "send_interval_s": 1, "hello_interval_s": 3_600}),
            ),
            (CommandKind::UpdateConfig, json!({"send_interval_s": 3_600, "hello_interval_s": 5})),
            (CommandKind::UpdateConfig, json!({"brokers": [{"host": "b.example", "port": 1}]})),
            (
                CommandKind::UpdateConfig,
                json!({"brokers": vec![json!({"host": "b", "port": 65_535}); 5]}),
            ),
            (
                CommandKind::StartOta,
                json!({"fw_version": "1.2.3-rc.1+b", "fw_url": "https://fw.example:8443/a.bin?x=1", "fw_sha256": sha, "fw_size_bytes": 1}),
            ),
            (CommandKind::Reboot, json!({})),
            (CommandKind::FactoryReset, json!({})),
            (CommandKind::RequestStatus, json!({})),
        ] {
            assert_eq!(checked(kind, &params), Ok(()), "{params}");
        }
    }

    #[test]
    fn invalid_or_unknown_parameter_is_named() {
        use CommandKind::{Reboot, StartOta, UpdateConfig};
        let ota = |name: &str, value: Value| {
            let mut params = json!({"fw_version": "1.2.3", "fw_url": "https://fw.example/a", "fw_sha256": "0".repeat(64), "fw_size_bytes": 9});
            params[name] = value;
            params
        };
        for (kind, params, expected) in [
            (UpdateConfig, json!({}), "params: must have at least one of"),
            (
                UpdateConfig,
                json!({"sampling_cadence_ms": 99}),
                "params.sampling_cadence_ms: must be an integer from 100 to 60000",
            ),
            (UpdateConfig, json!({"sampling_cadence_ms": 60_001}), "params.sampling_cadence_ms"),
            (
                UpdateConfig,
                json!({"send_interval_s": 0}),
                "params.send_interval_s: must be an integer from 1 to 3600",
            ),
            (UpdateConfig, json!({"send_interval_s": 1.5}), "params.send_interval_s"),
            (UpdateConfig, json!({"send_interval_s": "10"}), "params.send_interval_s"),
            (
                UpdateConfig,
                json!({"send_interval_s": null}),
                "params.send_interval_s: must not be null",
            ),
            (
                UpdateConfig,
                json!({"hello_interval_s": 4}),
                "params.hello_interval_s: must be an integer from 5 to 3600",
            ),
            (UpdateConfig, json!({"interval": 4}), "params.interval: is unknown"),
            (UpdateConfig, json!({"brokers": []}), "params.brokers: must be a list of 1 to 5"),
            (
                UpdateConfig,
                json!({"brokers": vec![json!({"host": "b", "port": 1}); 6]}),
                "params.brokers: must be a list of 1 to 5",
            ),
            (
                UpdateConfig,
                json!({"brokers": [{"host": "b", "port": 1}, 7]}),
                "params.brokers[1]: must be an object",
            ),
            (
                UpdateConfig,
                json!({"brokers": [{"host": "b"}]}),
                "params.brokers[0].port: is missing",
            ),
            (
                UpdateConfig,
                json!({"brokers": [{"host": "", "port": 1}]}),
                "params.brokers[0].host: must be 1 to 253",
            ),
            (
                UpdateConfig,
                json!({"brokers": [{"host": "b", "port": 65_536}]}),
                "params.brokers[0].port: must be an integer from 1 to 65535",
            ),
            (
                UpdateConfig,
                json!({"brokers": [{"host": "b", "port": 1, "tls": true}]}),
                "params.brokers[0].tls: is unknown",
            ),
            (StartOta, json!({}), "params.fw_version: is missing"),
            (
                StartOta,
                ota("fw_version", json!("v1.2.3")),
                "params.fw_version: must be a semantic version",
            ),
            (
                StartOta,
                ota("fw_url", json!("http://fw.example/a")),
                "params.fw_url: must be an https URL",
            ),
            (StartOta, ota("fw_url", json!("https://")), "params.fw_url"),
            (StartOta, ota("fw_url", json!("https:/a")), "params.fw_url"),
            (
                StartOta,
                ota("fw_sha256", json!("0".repeat(63))),
                "params.fw_sha256: must be 64 hex digits",
            ),
            (StartOta, ota("fw_sha256", json!("g".repeat(64))), "params.fw_sha256"),
            (
                StartOta,
                ota("fw_size_bytes", json!(0)),
                "params.fw_size_bytes: must be an integer from 1",
            ),
            (StartOta, ota("fw_size_bytes", json!(null)), "params.fw_size_bytes: is missing"),
            (StartOta, ota("force", json!(true)), "params.force: is unknown"),
            (Reboot, json!({"delay_s": 3}), "params.delay_s: is unknown; none is expected here"),
        ] {
            let actual = checked(kind, &params).unwrap_err();
            assert!(actual.starts_with(expected), "{params}: {actual}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_checked(url in any::<String>(), version in any::<String>()) {
            is_https(&url);
            let params = json!({"fw_version": version, "fw_url": url});
            let _ = checked(CommandKind::StartOta, &params);
        }
    }
}
