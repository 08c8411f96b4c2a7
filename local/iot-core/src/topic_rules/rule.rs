//! The effect of a topic rule on a message.

use base64::{Engine, engine::general_purpose::STANDARD};
use rumqttc::v5::mqttbytes::v5::Publish;
use serde::Serialize;

/// The limit of IoT Core, which disconnects devices that publish more.
pub(super) const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

/// The principal of all messages, because Mosquitto does not report the publisher. On AWS it is the
/// id of the device certificate.
const PRINCIPAL: &str = "mosquitto";

/// The fields that the SQL of the rules selects.
#[derive(Serialize)]
struct Selection<'a> {
    payload: &'a str,
    topic: &'a str,
    received_at: i64,
    principal: &'a str,
}

/// The result of applying the rules to a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RuleOutcome {
    /// The object to send to the queue.
    Forward(String),
    /// No rule applies: the message is retained and replayed, or the session has a filter that the
    /// template no longer has.
    Ignore,
    /// IoT Core would not have accepted the message.
    Reject { topic: String, bytes: usize },
}

/// Applies the rules with these topic filters to a message received at `received_at` (ms since the
/// epoch).
pub(super) fn apply(publish: &Publish, filters: &[String], received_at: i64) -> RuleOutcome {
    // The broker has checked that topics are UTF-8 ([MQTT-1.5.4-1]).
    let topic = String::from_utf8_lossy(&publish.topic);
    if publish.retain || !filters.iter().any(|filter| filter_matches(filter, &topic)) {
        return RuleOutcome::Ignore;
    }
    if publish.payload.len() > MAX_PAYLOAD_BYTES {
        return RuleOutcome::Reject { topic: topic.into_owned(), bytes: publish.payload.len() };
    }
    let selection = Selection {
        payload: &STANDARD.encode(&publish.payload),
        topic: &topic,
        received_at,
        principal: PRINCIPAL,
    };
    match serde_json::to_string(&selection) {
        Ok(body) => RuleOutcome::Forward(body),
        // Strings and an integer can always be serialized.
        Err(_) => RuleOutcome::Ignore,
    }
}

/// Returns whether a topic filter matches a topic ([MQTT-4.7]). The `matches` of rumqttc panics on
/// topics that start with a letter outside ASCII.
fn filter_matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (name, Some(level)) if name == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::QoS;

    use super::*;

    const RECEIVED_AT: i64 = 1_785_000_000_123;

    fn outcome(publish: &Publish) -> RuleOutcome {
        let filters = ["iot/+/telemetry".to_owned(), "iot/+/command/ack".to_owned()];
        apply(publish, &filters, RECEIVED_AT)
    }

    fn publish(topic: &str, payload: &[u8]) -> Publish {
        Publish::new(topic, QoS::AtLeastOnce, payload.to_vec(), None)
    }

    #[test]
    fn message_is_converted_to_the_object_of_the_sql() {
        let body = r#"{"payload":"eyJ2IjoyfQ==","topic":"iot/dc-meter-001/telemetry","received_at":1785000000123,"principal":"mosquitto"}"#;
        assert_eq!(
            outcome(&publish("iot/dc-meter-001/telemetry", br#"{"v":2}"#)),
            RuleOutcome::Forward(body.to_owned())
        );
    }

    #[test]
    fn binary_and_empty_payloads_are_forwarded_unchanged() {
        for (payload, encoded) in [(&[0u8, 255, 10][..], "AP8K"), (&[], "")] {
            let RuleOutcome::Forward(body) = outcome(&publish("iot/a/telemetry", payload)) else {
                panic!("{payload:?} was not sent");
            };
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["payload"], encoded);
        }
    }

    #[test]
    fn retained_message_is_ignored() {
        let mut replay = publish("iot/a/telemetry", b"{}");
        replay.retain = true;
        assert_eq!(outcome(&replay), RuleOutcome::Ignore);
    }

    #[test]
    fn topic_without_a_rule_is_ignored() {
        for topic in ["iot/a/command", "iot/a/b/telemetry", "iot/a/telemetry/x", "telemetry", "ö"]
        {
            assert_eq!(outcome(&publish(topic, b"{}")), RuleOutcome::Ignore, "{topic}");
        }
    }

    #[test]
    fn filters_match_by_the_rules_of_mqtt() {
        for (filter, topic, selected) in [
            ("iot/+/telemetry", "iot/ö/telemetry", true),
            ("iot/+/telemetry", "iot//telemetry", true),
            ("iot/#", "iot/a/b/c", true),
            ("iot/#", "iot", true),
            ("#", "ö", true),
            ("+", "a/b", false),
            ("iot/+", "iot", false),
            ("iot/a", "iot/a/b", false),
            ("iot/a/b", "iot/a", false),
            ("$aws/events/presence/+/+", "$aws/events/presence/connected/a", true),
        ] {
            assert_eq!(filter_matches(filter, topic), selected, "{filter} {topic}");
        }
    }

    #[test]
    fn payload_larger_than_the_limit_is_rejected() {
        let limit = vec![b'x'; MAX_PAYLOAD_BYTES];
        assert!(matches!(outcome(&publish("iot/a/telemetry", &limit)), RuleOutcome::Forward(_)));
        let over = vec![b'x'; MAX_PAYLOAD_BYTES + 1];
        assert_eq!(
            outcome(&publish("iot/a/telemetry", &over)),
            RuleOutcome::Reject {
                topic: "iot/a/telemetry".to_owned(),
                bytes: MAX_PAYLOAD_BYTES + 1
            }
        );
    }
}
