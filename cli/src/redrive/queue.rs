//! An SQS queue: at most ten messages and 256 KiB a call, and a result for each message.

use anyhow::{Context as _, Result, anyhow};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, DeleteMessageBatchRequestEntry, Message, QueueAttributeName,
    SendMessageBatchRequestEntry,
};

use crate::target::call_error;

const MAX_ENTRIES: usize = 10;
/// The maximum size of a call. SQS allows 1 MiB since August 2025; some emulators still allow 256
/// KiB, its limit before. A larger message is sent in a call of its own.
const MAX_CALL_BYTES: usize = 256 * 1024;
/// The largest message that SQS accepts.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Long polling queries every server of SQS. A short poll can return nothing while there are
/// messages.
const WAIT_S: i32 = 2;
/// The visibility timeout of a received message: longer than sending and deleting it take.
const VISIBILITY_S: i32 = 60;

/// A queue.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    client: Client,
    url: String,
}

/// The reason why the queue refused a message, or `None`, in the order of the messages.
pub(super) type SendResults = Vec<Option<String>>;

impl Queue {
    pub(super) fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Sends any number of messages.
    pub(super) async fn send(&self, bodies: &[&str]) -> Result<SendResults> {
        let mut results = Vec::with_capacity(bodies.len());
        for call in batches(bodies) {
            let entries = call.iter().enumerate().map(|(index, body)| {
                let entry = SendMessageBatchRequestEntry::builder();
                entry.id(index.to_string()).message_body(*body).build()
            });
            let answer = self
                .client
                .send_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries.collect::<Result<_, _>>()?))
                .send()
                .await
                .map_err(|error| call_error("SQS SendMessageBatch", error))?;
            results.extend(send_results(call.len(), &answer.failed));
        }
        Ok(results)
    }

    /// Receives up to ten messages; none when the queue is empty.
    pub(super) async fn receive(&self) -> Result<Vec<Message>> {
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(MAX_ENTRIES as i32)
            .wait_time_seconds(WAIT_S)
            .visibility_timeout(VISIBILITY_S)
            .send()
            .await
            .map_err(|error| call_error("SQS ReceiveMessage", error))?;
        Ok(answer.messages.unwrap_or_default())
    }

    /// Deletes up to ten messages.
    pub(super) async fn delete(&self, receipts: &[&str]) -> Result<()> {
        if receipts.is_empty() {
            return Ok(());
        }
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            let entry = DeleteMessageBatchRequestEntry::builder();
            entry.id(index.to_string()).receipt_handle(*receipt).build()
        });
        // An entry that is not deleted is received and moved again; ingest stores it once.
        self.client
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect::<Result<_, _>>()?))
            .send()
            .await
            .map_err(|error| call_error("SQS DeleteMessageBatch", error))?;
        Ok(())
    }

    /// The approximate number of messages that were received and not deleted.
    pub(super) async fn in_flight(&self) -> Result<usize> {
        let name = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(name.clone())
            .send()
            .await
            .map_err(|error| call_error("SQS GetQueueAttributes", error))?;
        let count = answer.attributes.as_ref().and_then(|attributes| attributes.get(&name));
        count.and_then(|text| text.parse().ok()).with_context(|| format!("SQS returned no {name}"))
    }
}

/// The text of a message body, or the reason why SQS does not accept it.
pub(super) fn message_body(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).context("not UTF-8")?;
    match text.len() {
        0 => return Err(anyhow!("empty; a queue accepts no empty message")),
        large if large > MAX_MESSAGE_BYTES => {
            return Err(anyhow!("{large} bytes; a queue accepts {MAX_MESSAGE_BYTES}"));
        }
        _ => {}
    }
    // SQS accepts the characters of XML 1.0.
    let is_invalid = |c: char| matches!(c, '\0'..='\x08' | '\x0B' | '\x0C' | '\x0E'..='\x1F' | '\u{FFFE}' | '\u{FFFF}');
    match text.chars().find(|c| is_invalid(*c)) {
        Some(c) => {
            Err(anyhow!("contains the character {}, which SQS does not accept", c.escape_unicode()))
        }
        None => Ok(text),
    }
}

/// Splits messages into calls.
fn batches<'a, 'b>(bodies: &'b [&'a str]) -> impl Iterator<Item = &'b [&'a str]> {
    let mut rest = bodies;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(MAX_ENTRIES).take_while(|body| {
            bytes += body.len();
            bytes <= MAX_CALL_BYTES
        });
        let (call, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = later;
        (!call.is_empty()).then_some(call)
    })
}

fn send_results(entries: usize, failed: &[BatchResultErrorEntry]) -> SendResults {
    let mut results = vec![None; entries];
    for entry in failed {
        // An id is the index in the call.
        if let Some(refusal) = entry.id.parse().ok().and_then(|index: usize| results.get_mut(index))
        {
            *refusal =
                Some(format!("{} {}", entry.code, entry.message.as_deref().unwrap_or_default()));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_respect_message_count_and_size_of_a_call() {
        let lengths = |bodies: &[String]| -> Vec<usize> {
            let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
            batches(&bodies).map(<[&str]>::len).collect()
        };
        let body = |bytes: usize| "x".repeat(bytes);
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![body(1); 21]), [10, 10, 1]);
        let half = MAX_CALL_BYTES / 2;
        assert_eq!(lengths(&[body(half), body(half), body(1)]), [2, 1]);
        assert_eq!(lengths(&[body(1), body(MAX_CALL_BYTES + 1), body(1)]), [1, 1, 1]);
    }

    #[test]
    fn body_that_sqs_does_not_accept_is_refused_with_the_reason() {
        assert_eq!(
            message_body("{\"é\": \"\u{1F600}\"}\r\n\t".as_bytes()).ok(),
            Some("{\"é\": \"\u{1F600}\"}\r\n\t")
        );
        for (bytes, reason) in [
            (vec![], "empty"),
            (vec![0xFF], "not UTF-8"),
            (vec![b'x', 0], "\\u{0}"),
            (vec![b'x'; MAX_MESSAGE_BYTES + 1], "1048577 bytes"),
        ] {
            let error = message_body(&bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
