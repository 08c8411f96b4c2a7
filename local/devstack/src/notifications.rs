//! A subscription to the topic of alert notifications, with a queue of its own.

use std::path::Path;

use anyhow::{Context as _, Result};
use aws_sdk_sqs::types::QueueAttributeName;
use serde::Deserialize;
use tracing::warn;

use crate::{aws, data_directory};

/// The prefix of the queue's name; the process id follows.
const QUEUE_PREFIX: &str = "alert-notifications";
const WAIT_S: i32 = 5;
const MAX_MESSAGES: i32 = 10;

/// A subscription to the alert topic of `devstack run`.
#[derive(Debug)]
pub struct Notifications {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    queue_url: String,
    subscription: String,
}

/// The envelope of an SNS message in a queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    #[serde(default)]
    subject: String,
    message: String,
}

impl Notifications {
    /// Subscribes to the topic of the system with this data directory and endpoint port.
    ///
    /// # Errors
    /// When the data directory contains no outputs, or the endpoint does not respond.
    pub async fn subscribe(data: &Path, endpoint_port: u16) -> Result<Self> {
        let outputs = data_directory::read_outputs(data)?;
        let topic = outputs.get("AlertTopicArn").context("the outputs contain no AlertTopicArn")?;
        let config = aws::config(endpoint_port);
        let (sqs, sns) = (aws_sdk_sqs::Client::new(&config), aws_sdk_sns::Client::new(&config));
        let name = format!("{QUEUE_PREFIX}-{}", std::process::id());
        let queue = sqs.create_queue().queue_name(name).send().await?;
        let queue_url = queue.queue_url.context("SQS returned no queue URL")?;
        let arn = QueueAttributeName::QueueArn;
        let attributes =
            sqs.get_queue_attributes().queue_url(&queue_url).attribute_names(arn.clone());
        let attributes = attributes.send().await?.attributes.unwrap_or_default();
        let arn = attributes.get(&arn).context("SQS returned no queue ARN")?;
        let subscribe = sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(arn);
        let subscribed = subscribe.return_subscription_arn(true).send().await?;
        let subscription = subscribed.subscription_arn.context("SNS returned no subscription")?;
        Ok(Self { sqs, sns, queue_url, subscription })
    }

    /// Receives notifications as printable text; returns an empty list after a few seconds without
    /// any.
    ///
    /// # Errors
    /// When the endpoint does not respond.
    pub async fn next(&self) -> Result<Vec<String>> {
        let response = self
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(MAX_MESSAGES)
            .wait_time_seconds(WAIT_S)
            .send()
            .await
            .context("the endpoint does not respond any more")?;
        let mut texts = Vec::new();
        for message in response.messages() {
            texts.push(format_notification(message.body().unwrap_or_default()));
            let receipt = message.receipt_handle().unwrap_or_default();
            let delete = self.sqs.delete_message().queue_url(&self.queue_url);
            delete.receipt_handle(receipt).send().await?;
        }
        Ok(texts)
    }

    /// Ends the subscription and deletes the queue.
    pub async fn unsubscribe(self) {
        let unsubscribed = self.sns.unsubscribe().subscription_arn(self.subscription).send().await;
        let deleted = self.sqs.delete_queue().queue_url(self.queue_url).send().await;
        if unsubscribed.is_err() || deleted.is_err() {
            warn!("the subscription could not be removed; `make reset` removes it");
        }
    }
}

/// The subject and the message of an SNS envelope; other text unchanged.
fn format_notification(body: &str) -> String {
    match serde_json::from_str(body) {
        Ok(Envelope { subject, message }) => format!("{subject}\n{message}"),
        Err(_) => body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_is_printed_as_subject_and_message() {
        let envelope = r#"{"Type": "Notification", "Subject": "s", "Message": "{\"a\": 1}"}"#;
        assert_eq!(format_notification(envelope), "s\n{\"a\": 1}");
        assert_eq!(format_notification("plain"), "plain");
    }
}
