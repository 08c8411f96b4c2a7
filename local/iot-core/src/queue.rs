//! The SQS queue: at most ten messages a call, with a result for each of them.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use tokio::time::timeout;

use crate::error_chain::error_chain;

/// The maximum number of entries of a call.
pub(crate) const MAX_BATCH_ENTRIES: usize = 10;

/// The timeout of a call, in addition to the wait time of a receive.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A call that failed as a whole, or whose outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("SQS {operation}: {cause}")]
    Call { operation: &'static str, cause: String },
    #[error("SQS {operation}: no response within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut { operation: &'static str },
}

/// An entry that SQS rejected although the call succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedEntry {
    /// The index in the call.
    pub(crate) index: usize,
    pub(crate) reason: String,
}

/// A queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    pub(crate) fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Looks up the queue of an ARN (`arn:aws:sqs:REGION:ACCOUNT:NAME`).
    pub(crate) async fn by_arn(client: &Client, arn: &str) -> Result<Self, QueueError> {
        let operation = "GetQueueUrl";
        let name = arn.rsplit(':').next().unwrap_or(arn);
        let call = client.get_queue_url().queue_name(name).send();
        let response = with_timeout(operation, CALL_TIMEOUT, call).await?;
        match response.queue_url {
            Some(url) => Ok(Self::new(client.clone(), url)),
            None => Err(QueueError::Call { operation, cause: format!("no URL for {arn}") }),
        }
    }

    /// Sends up to ten messages; returns those that were rejected.
    pub(crate) async fn send(&self, bodies: &[&str]) -> Result<Vec<FailedEntry>, QueueError> {
        let operation = "SendMessageBatch";
        let mut entries = Vec::with_capacity(bodies.len());
        for (index, body) in bodies.iter().enumerate() {
            entries.push(build_entry(
                operation,
                SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(*body)
                    .build(),
            )?);
        }
        let call =
            self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send();
        let response = with_timeout(operation, CALL_TIMEOUT, call).await?;
        Ok(failed_entries(&response.failed))
    }

    /// Waits up to `wait` for messages, at most ten, and hides them for `visibility`.
    pub(crate) async fn receive(
        &self,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(MAX_BATCH_ENTRIES as i32)
            .wait_time_seconds(whole_seconds(wait))
            .visibility_timeout(whole_seconds(visibility))
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .send();
        let response = with_timeout("ReceiveMessage", wait + CALL_TIMEOUT, call).await?;
        Ok(response.messages.unwrap_or_default())
    }

    /// Deletes up to ten messages; returns those that were rejected.
    pub(crate) async fn delete(&self, receipts: &[String]) -> Result<Vec<FailedEntry>, QueueError> {
        let operation = "DeleteMessageBatch";
        let mut entries = Vec::with_capacity(receipts.len());
        for (index, receipt) in receipts.iter().enumerate() {
            entries.push(build_entry(
                operation,
                DeleteMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(receipt)
                    .build(),
            )?);
        }
        let call = self
            .client
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send();
        let response = with_timeout(operation, CALL_TIMEOUT, call).await?;
        Ok(failed_entries(&response.failed))
    }

    /// Hides up to ten messages for `visibility` from now (zero makes them visible); returns those
    /// that were rejected.
    pub(crate) async fn change_visibility(
        &self,
        receipts: &[String],
        visibility: Duration,
    ) -> Result<Vec<FailedEntry>, QueueError> {
        let operation = "ChangeMessageVisibilityBatch";
        let mut entries = Vec::with_capacity(receipts.len());
        for (index, receipt) in receipts.iter().enumerate() {
            entries.push(build_entry(
                operation,
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(whole_seconds(visibility))
                    .build(),
            )?);
        }
        let call = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send();
        let response = with_timeout(operation, CALL_TIMEOUT, call).await?;
        Ok(failed_entries(&response.failed))
    }
}

async fn with_timeout<T, E>(
    operation: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, QueueError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(QueueError::Call { operation, cause: error_chain(&error) }),
        Err(_) => Err(QueueError::TimedOut { operation }),
    }
}

fn build_entry<T>(
    operation: &'static str,
    entry: Result<T, aws_sdk_sqs::error::BuildError>,
) -> Result<T, QueueError> {
    entry.map_err(|error| QueueError::Call { operation, cause: error.to_string() })
}

fn failed_entries(failed: &[BatchResultErrorEntry]) -> Vec<FailedEntry> {
    failed
        .iter()
        .filter_map(|entry| {
            // The ids are the indexes of the call.
            let index = entry.id.parse().ok()?;
            let message = entry.message.as_deref().unwrap_or_default();
            Some(FailedEntry { index, reason: format!("{} {message}", entry.code) })
        })
        .collect()
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
