//! What a topic rule makes of a message.

use base64::{Engine, engine::general_purpose::STANDARD};
use rumqttc::v5::mqttbytes::v5::Publish;
use serde::Serialize;

/// IoT Core's limit; a device that publishes more is disconnected there.
pub(super) const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

/// Who published. Mosquitto does not tell subscribers; on AWS it is the id of the device's certificate.
const PRINCIPAL: &str = "mosquitto";

/// What the rules' SQL selects, field by field.
#[derive(Serialize)]
struct Selection<'a> {
    payload: &'a str,
    topic: &'a str,
    received_at: i64,
    principal: &'a str,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RuleOutcome {
    /// Its rule sends this to the queue.
    Forward(String),
    /// No rule sees it, as it is retained and replayed, or as the session still has a filter that the
    /// template no longer has.
    Ignore,
    /// IoT Core would never have taken it.
    Reject { topic: String, bytes: usize },
}

/// Applies the rules with these topic filters to a message that arrived at `received_at`, in
/// milliseconds since the epoch.
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
        // Texts and a number always have a JSON form.
        Err(_) => RuleOutcome::Ignore,
    }
}

/// Whether a topic filter selects a topic ([MQTT-4.7]; rumqttc's own `matches` panics on a topic that
/// begins with a letter beyond ASCII).
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
    fn a_message_becomes_the_object_that_the_sql_selects() {
        let body = r#"{"payload":"eyJ2IjoyfQ==","topic":"iot/dc-meter-001/telemetry","received_at":1785000000123,"principal":"mosquitto"}"#;
        assert_eq!(
            outcome(&publish("iot/dc-meter-001/telemetry", br#"{"v":2}"#)),
            RuleOutcome::Forward(body.to_owned())
        );
    }

    #[test]
    fn bytes_that_are_no_json_and_no_bytes_at_all_pass_unchanged() {
        for (payload, encoded) in [(&[0u8, 255, 10][..], "AP8K"), (&[], "")] {
            let RuleOutcome::Forward(body) = outcome(&publish("iot/a/telemetry", payload)) else {
                panic!("{payload:?} was not sent");
            };
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["payload"], encoded);
        }
    }

    #[test]
    fn a_retained_replay_is_ignored() {
        let mut replay = publish("iot/a/telemetry", b"{}");
        replay.retain = true;
        assert_eq!(outcome(&replay), RuleOutcome::Ignore);
    }

    #[test]
    fn a_topic_without_a_rule_is_ignored() {
        for topic in ["iot/a/command", "iot/a/b/telemetry", "iot/a/telemetry/x", "telemetry", "ö"]
        {
            assert_eq!(outcome(&publish(topic, b"{}")), RuleOutcome::Ignore, "{topic}");
        }
    }

    #[test]
    fn filters_select_as_mqtt_says() {
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
    fn a_payload_up_to_the_limit_is_sent_and_one_byte_more_is_refused() {
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
