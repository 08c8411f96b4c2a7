//! A subscriber of the topic of alerts: a queue of its own, for as long as somebody looks.

use std::path::Path;

use anyhow::{Context as _, Result};
use aws_sdk_sqs::types::QueueAttributeName;
use serde::Deserialize;
use tracing::warn;

use crate::aws;
use crate::redrive::read_outputs;

/// The queue's name begins so; the rest is the process's id.
const QUEUE_PREFIX: &str = "alert-notifications";
const WAIT_S: i32 = 5;
const MAX_MESSAGES: i32 = 10;

/// A subscription to the topic of alerts of `devstack run`.
#[derive(Debug)]
pub struct Notifications {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    queue_url: String,
    subscription: String,
}

/// A message of SNS in a queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    #[serde(default)]
    subject: String,
    message: String,
}

impl Notifications {
    /// Subscribes to the topic of the system with this data folder and endpoint port.
    ///
    /// # Errors
    /// When it has never run, or does not answer.
    pub async fn subscribe(data: &Path, endpoint_port: u16) -> Result<Self> {
        let outputs = read_outputs(&data.join("outputs.json"))
            .with_context(|| format!("nothing has run in {}", data.display()))?;
        let topic = outputs.get("AlertTopicArn").context("the outputs have no AlertTopicArn")?;
        let config = aws::config(endpoint_port);
        let (sqs, sns) = (aws_sdk_sqs::Client::new(&config), aws_sdk_sns::Client::new(&config));
        let name = format!("{QUEUE_PREFIX}-{}", std::process::id());
        let queue = sqs.create_queue().queue_name(name).send().await?;
        let queue_url = queue.queue_url.context("SQS gives the queue no URL")?;
        let arn = QueueAttributeName::QueueArn;
        let attributes =
            sqs.get_queue_attributes().queue_url(&queue_url).attribute_names(arn.clone());
        let attributes = attributes.send().await?.attributes.unwrap_or_default();
        let arn = attributes.get(&arn).context("SQS gives the queue no ARN")?;
        let subscribe = sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(arn);
        let subscribed = subscribe.return_subscription_arn(true).send().await?;
        let subscription = subscribed.subscription_arn.context("SNS gives no subscription")?;
        Ok(Self { sqs, sns, queue_url, subscription })
    }

    /// What came since, for a person; empty after a few seconds without any.
    ///
    /// # Errors
    /// When the endpoint does not answer any more.
    pub async fn next(&self) -> Result<Vec<String>> {
        let answer = self
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(MAX_MESSAGES)
            .wait_time_seconds(WAIT_S)
            .send()
            .await
            .context("the endpoint does not answer any more")?;
        let mut notices = Vec::new();
        for message in answer.messages() {
            notices.push(format_notification(message.body().unwrap_or_default()));
            let receipt = message.receipt_handle().unwrap_or_default();
            self.sqs
                .delete_message()
                .queue_url(&self.queue_url)
                .receipt_handle(receipt)
                .send()
                .await?;
        }
        Ok(notices)
    }

    /// Ends the subscription and removes the queue.
    pub async fn unsubscribe(self) {
        let unsubscribed = self.sns.unsubscribe().subscription_arn(self.subscription).send().await;
        let deleted = self.sqs.delete_queue().queue_url(self.queue_url).send().await;
        if unsubscribed.is_err() || deleted.is_err() {
            warn!("the subscription may be left behind; `make reset` removes it");
        }
    }
}

/// Subject, and the document as it is.
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
    fn a_notice_is_printed_with_its_subject_and_whatever_else_comes_as_it_is() {
        let envelope = r#"{"Type": "Notification", "Subject": "s", "Message": "{\"a\": 1}"}"#;
        assert_eq!(format_notification(envelope), "s\n{\"a\": 1}");
        assert_eq!(format_notification("plain"), "plain");
    }
}
