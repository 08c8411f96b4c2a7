//! What Lambda is invoked with: an SQS batch of what the IoT rules forwarded, or one such object.

use aws_lambda_events::event::sqs::SqsEvent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use meter_domain::message::{ParseError, ReceivedMessage};
use meter_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// Where an event came from, which decides the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A batch from the queue.
    Queue,
    /// One message, straight from a rule or from a test.
    Rule,
}

/// One thing to handle.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The queue's id of it; empty without a queue.
    pub id: String,
    /// What was received.
    pub received: ReceivedMessage,
    /// Why it is not what a rule forwards; `received` then holds what there is.
    pub parse_error: Option<ParseError>,
}

/// What the rules' SQL makes of a message (docs/adr/0001); an error action calls the
/// payload by another name and has no time.
#[derive(Deserialize)]
struct ForwardedMessage {
    #[serde(alias = "base64OriginalPayload")]
    payload: String,
    topic: String,
    received_at: Option<i64>,
}

/// Reads an event. Nothing in it is refused: what is no message is a delivery with `parse_error`.
pub fn parse(event: &Value, now: Timestamp) -> (Source, Vec<Delivery>) {
    let batch = event.get("Records").and_then(|_| SqsEvent::deserialize(event).ok());
    let Some(batch) = batch else {
        return (Source::Rule, vec![parse_delivery(String::new(), &event.to_string(), now)]);
    };
    let deliveries = batch.records.into_iter().map(|record| {
        // The same at each redelivery, which `now` would not be.
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
        Some(ms) => Timestamp::from_millis(ms).map_err(|bad| format!("received_at: {bad}"))?,
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
    fn a_batch_of_the_queue_and_a_single_message_are_read_alike() {
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
    fn an_object_of_an_error_action_is_read_too() {
        let body =
            json!({"base64OriginalPayload": "e30=", "topic": "iot/a/hello", "ruleName": "r"});
        let (_, single) = parse(&body, now());
        assert_eq!(single[0].received.received_at, now());
        assert_eq!(single[0].parse_error, None);
    }

    #[test]
    fn what_no_rule_forwards_is_kept_with_the_reason() {
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
