//! Parses the event of an invocation: an SQS batch of messages that the IoT rules forwarded, or one
//! forwarded message.

use aws_lambda_events::event::sqs::SqsEvent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use meter_domain::message::{ParseError, ReceivedMessage};
use meter_domain::time::Timestamp;
use meter_service::ingestion::Delivery;
use serde::Deserialize;
use serde_json::Value;

/// The source of an event, which determines the form of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The queue: a batch.
    Queue,
    /// A rule or a test: one message.
    Rule,
}

/// A message as the SQL of the rules forwards it (docs/adr/0001). An error action uses another name
/// for the payload and has no time.
#[derive(Deserialize)]
struct ForwardedMessage {
    #[serde(alias = "base64OriginalPayload")]
    payload: String,
    topic: String,
    received_at: Option<i64>,
}

/// Parses an event. Parts that are not forwarded messages become deliveries with a `parse_error`.
pub(crate) fn parse(event: &Value, now: Timestamp) -> (Source, Vec<Delivery>) {
    let batch = event.get("Records").and_then(|_| SqsEvent::deserialize(event).ok());
    let Some(batch) = batch else {
        return (Source::Rule, vec![parse_delivery(String::new(), &event.to_string(), now)]);
    };
    let deliveries = batch.records.into_iter().map(|record| {
        // The time of sending, unlike `now`, is the same for each redelivery.
        let sent = record.attributes.get("SentTimestamp").and_then(|ms| ms.parse().ok());
        let sent = sent.and_then(|ms| Timestamp::from_millis(ms).ok()).unwrap_or(now);
        parse_delivery(
            record.message_id.unwrap_or_default(),
            record.body.as_deref().unwrap_or_default(),
            sent,
        )
    });
    (Source::Queue, deliveries.collect())
}

fn parse_delivery(id: String, body: &str, sent: Timestamp) -> Delivery {
    match parse_forwarded(body, sent) {
        Ok(received) => Delivery { id, received, parse_error: None },
        Err(reason) => Delivery {
            id,
            received: ReceivedMessage {
                topic: String::new(),
                payload: body.as_bytes().to_vec().into(),
                received_at: sent,
            },
            parse_error: Some(ParseError::MalformedDelivery(reason)),
        },
    }
}

fn parse_forwarded(body: &str, sent: Timestamp) -> Result<ReceivedMessage, String> {
    let forwarded: ForwardedMessage =
        serde_json::from_str(body).map_err(|error| error.to_string())?;
    let payload = BASE64
        .decode(&forwarded.payload)
        .map_err(|error| format!("payload: is not base64: {error}"))?;
    let received_at = match forwarded.received_at {
        Some(ms) => Timestamp::from_millis(ms).map_err(|error| format!("received_at: {error}"))?,
        None => sent,
    };
    Ok(ReceivedMessage { topic: forwarded.topic, payload: payload.into(), received_at })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-03-01T12:00:00Z").unwrap()
    }

    #[test]
    fn queued_and_single_messages_are_parsed_alike() {
        let body = json!({"payload": "e30=", "topic": "iot/a/hello", "received_at": 1_000, "principal": "p"});
        let record = json!({"messageId": "1", "body": body.to_string(), "attributes": {"SentTimestamp": "5"},
            "receiptHandle": "r", "md5OfBody": "x", "messageAttributes": {}, "eventSource": "aws:sqs"});
        let (source, queued) = parse(&json!({"Records": [record]}), now());
        assert_eq!((source, queued[0].id.as_str()), (Source::Queue, "1"));
        let (source, single) = parse(&body, now());
        assert_eq!(source, Source::Rule);
        assert_eq!(single[0].received, queued[0].received);
        assert_eq!(single[0].received.payload.as_ref(), b"{}");
        assert_eq!(single[0].received.received_at, Timestamp::from_millis(1_000).unwrap());
    }

    #[test]
    fn object_of_an_error_action_is_parsed() {
        let body =
            json!({"base64OriginalPayload": "e30=", "topic": "iot/a/hello", "ruleName": "r"});
        let (_, single) = parse(&body, now());
        assert_eq!(single[0].received.received_at, now());
        assert_eq!(single[0].parse_error, None);
    }

    #[test]
    fn malformed_delivery_is_kept_with_the_reason() {
        let cases = [
            ("nonsense", "delivery: expected"),
            ("{}", "delivery: missing field `payload`"),
            (r#"{"payload":"?","topic":"t"}"#, "delivery: payload: is not base64"),
            (r#"{"payload":"","topic":"t","received_at":9e18}"#, "delivery: invalid type"),
        ];
        for (body, reason) in cases {
            let record =
                json!({"messageId": "1", "body": body, "attributes": {"SentTimestamp": "5000"}});
            let (_, deliveries) = parse(&json!({"Records": [record]}), now());
            let parse_error = deliveries[0].parse_error.as_ref().unwrap().to_string();
            assert!(parse_error.starts_with(reason), "{parse_error}");
            assert_eq!(deliveries[0].received.payload, body.as_bytes());
            assert_eq!(deliveries[0].received.received_at, Timestamp::from_millis(5_000).unwrap());
        }
    }
}
