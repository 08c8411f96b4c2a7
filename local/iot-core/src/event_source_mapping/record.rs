//! SQS messages as records of a Lambda event
//! (<https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>).

use std::collections::BTreeMap;

use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

/// The text before and after the records of an event.
const ENVELOPE: (&str, &str) = (r#"{"Records":["#, "]}");

/// The queue of a record.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) queue_arn: String,
    pub(super) region: String,
}

/// A message as a record of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) message_id: String,
    json: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordBody<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
    message_attributes: BTreeMap<&'a str, Attribute<'a>>,
    md5_of_body: Option<&'a str>,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    string_list_values: [&'a str; 0],
    binary_list_values: [&'a str; 0],
    data_type: &'a str,
}

impl<'a> From<&'a MessageAttributeValue> for Attribute<'a> {
    fn from(value: &'a MessageAttributeValue) -> Self {
        Self {
            string_value: value.string_value(),
            binary_value: value.binary_value().map(|bytes| STANDARD.encode(bytes)),
            string_list_values: [],
            binary_list_values: [],
            data_type: value.data_type(),
        }
    }
}

impl Record {
    /// Returns `None` if the message has no id, receipt handle or body, which SQS always sends.
    pub(super) fn from_message(message: &Message, origin: &Origin) -> Option<Self> {
        let message_id = message.message_id()?;
        let attributes = message.attributes().into_iter().flatten();
        let message_attributes = message.message_attributes().into_iter().flatten();
        let body = RecordBody {
            message_id,
            receipt_handle: message.receipt_handle()?,
            body: message.body()?,
            attributes: attributes.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            message_attributes: message_attributes
                .map(|(name, value)| (name.as_str(), value.into()))
                .collect(),
            md5_of_body: message.md5_of_body(),
            event_source: "aws:sqs",
            event_source_arn: &origin.queue_arn,
            aws_region: &origin.region,
        };
        Some(Self { message_id: message_id.to_owned(), json: serde_json::to_string(&body).ok()? })
    }

    /// Returns by how many bytes an event grows with this record.
    pub(super) fn bytes(&self) -> usize {
        self.json.len() + 1
    }
}

/// Returns the event with these records.
pub(super) fn event(records: &[Record]) -> String {
    let bytes = records.iter().map(Record::bytes).sum::<usize>() + 32;
    let mut event = String::with_capacity(bytes);
    event.push_str(ENVELOPE.0);
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            event.push(',');
        }
        event.push_str(&record.json);
    }
    event.push_str(ENVELOPE.1);
    event
}

#[cfg(test)]
pub(super) fn record(message_id: &str, bytes: usize) -> Record {
    Record {
        message_id: message_id.to_owned(),
        json: format!(r#""{}""#, "x".repeat(bytes.saturating_sub(3))),
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::sqs::SqsEvent;
    use aws_sdk_sqs::{primitives::Blob, types::MessageSystemAttributeName};

    use super::*;

    fn origin() -> Origin {
        Origin {
            queue_arn: "arn:aws:sqs:us-east-1:000000000000:ingest".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }

    fn message(id: &str, body: &str) -> Message {
        Message::builder()
            .message_id(id)
            .receipt_handle(format!("receipt of {id}"))
            .body(body)
            .md5_of_body("9bb58f26192e4ba00f01e2e7b136bbd8")
            .attributes(MessageSystemAttributeName::SentTimestamp, "1785000000123")
            .attributes(MessageSystemAttributeName::ApproximateReceiveCount, "2")
            .message_attributes(
                "trace",
                MessageAttributeValue::builder()
                    .data_type("Binary")
                    .binary_value(Blob::new([0, 255]))
                    .build()
                    .unwrap(),
            )
            .build()
    }

    #[test]
    fn event_has_the_format_of_lambda() {
        let body = r#"{"payload":"e30=","topic":"iot/ö/telemetry"}"#;
        let records = [message("m-1", body), message("m-2", "")]
            .map(|message| Record::from_message(&message, &origin()).unwrap());
        let event: SqsEvent = serde_json::from_str(&event(&records)).unwrap();

        let [first, second] = event.records.as_slice() else {
            panic!("{} records", event.records.len());
        };
        assert_eq!(first.message_id.as_deref(), Some("m-1"));
        assert_eq!(first.receipt_handle.as_deref(), Some("receipt of m-1"));
        assert_eq!(first.body.as_deref(), Some(body));
        assert_eq!(first.md5_of_body.as_deref(), Some("9bb58f26192e4ba00f01e2e7b136bbd8"));
        assert_eq!(first.attributes["SentTimestamp"], "1785000000123");
        assert_eq!(first.attributes["ApproximateReceiveCount"], "2");
        assert_eq!(first.message_attributes["trace"].binary_value.as_ref().unwrap().0, [0, 255]);
        assert_eq!(first.event_source.as_deref(), Some("aws:sqs"));
        assert_eq!(
            first.event_source_arn.as_deref(),
            Some("arn:aws:sqs:us-east-1:000000000000:ingest")
        );
        assert_eq!(first.aws_region.as_deref(), Some("us-east-1"));
        assert_eq!(second.message_id.as_deref(), Some("m-2"));
    }

    #[test]
    fn event_length_is_the_sum_of_record_lengths() {
        let records = ["a", "b", "c"].map(|id| record(id, 100));
        assert_eq!(event(&records).len(), ENVELOPE.0.len() + ENVELOPE.1.len() + 3 * 100 - 1);
    }
}
