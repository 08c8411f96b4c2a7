//! Notifications of alerts to an SNS topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sns::error::BuildError;
use aws_sdk_sns::types::MessageAttributeValue;
use bytes::Bytes;
use meter_domain::command::CommandKind;
use meter_domain::id::DeviceId;
use meter_domain::notification::Notification;
use meter_domain::time::Timestamp;
use meter_store::{CommandPublisher, Notifier, NotifyError, PublishError};
use serde_json::json;

use super::tracing_interceptor::TracingInterceptor;
use super::{Clients, IotCommandPublisher};

/// Attempts of one call. A failed notification stays in the outbox of its device and is retried,
/// while a batch of telemetry waits for this call.
const MAX_ATTEMPTS: u32 = 2;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// Seconds after a failure without further attempts: an unavailable topic must delay a batch by one
/// call, not by one for each device.
const FAILURE_COOLDOWN_S: i64 = 10;

/// Creates a client with short timeouts.
pub(super) fn client(config: &SdkConfig) -> aws_sdk_sns::Client {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let config = aws_sdk_sns::config::Builder::from(config)
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        .timeout_config(timeouts)
        .interceptor(TracingInterceptor);
    aws_sdk_sns::Client::from_conf(config.build())
}

/// Implements [`Notifier`] with a topic.
///
/// A standard topic, to which email and HTTPS endpoints can subscribe, may deliver a notification
/// twice, with the same `dedup_id`. A FIFO topic, to which only queues can subscribe, drops
/// repetitions within five minutes.
#[derive(Debug, Clone)]
pub struct SnsNotifier {
    client: aws_sdk_sns::Client,
    arn: Option<String>,
    /// Time of the next attempt after a failure, in seconds since the epoch.
    cooldown_until: Arc<AtomicI64>,
}

#[derive(Debug, thiserror::Error)]
#[error("not sent: a notification failed less than {FAILURE_COOLDOWN_S} s ago")]
struct CoolingDown;

impl SnsNotifier {
    /// Creates the adapter. Without an ARN, notifications are dropped.
    pub fn new(clients: &Clients, arn: Option<String>) -> Self {
        Self {
            client: clients.sns.clone(),
            arn,
            cooldown_until: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }
}

/// Returns a message attribute, for filter policies of subscriptions.
fn attribute(value: &str) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build()
}

/// Returns the message for each protocol: texts for email and SMS, the JSON document for all
/// others.
fn message(notification: &Notification) -> String {
    let document = notification.to_json().to_string();
    json!({"default": document, "email": notification.email_text(), "sms": notification.sms_text()})
        .to_string()
}

impl Notifier for SnsNotifier {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let Some(arn) = &self.arn else { return Ok(()) };
        let now = Timestamp::now().as_seconds();
        if now < self.cooldown_until.load(Ordering::Relaxed) {
            return Err(NotifyError(CoolingDown.into()));
        }
        let mut publish = self
            .client
            .publish()
            .topic_arn(arn)
            .subject(notification.subject())
            .message_structure("json")
            .message(message(notification));
        for (name, value) in [
            ("severity", notification.severity.as_str()),
            ("device_id", notification.device_id.as_str()),
            ("alert_type", &notification.alert_type),
            ("event", notification.event.as_str()),
            ("dedup_id", &notification.dedup_id()),
        ] {
            let value = attribute(value).map_err(|error| NotifyError(error.into()))?;
            publish = publish.message_attributes(name, value);
        }
        if arn.ends_with(".fifo") {
            publish = publish
                .message_group_id(notification.device_id.as_str())
                .message_deduplication_id(notification.dedup_id());
        }
        match publish.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.cooldown_until.store(now + FAILURE_COOLDOWN_S, Ordering::Relaxed);
                Err(NotifyError(error.into()))
            }
        }
    }
}

/// Implements [`CommandPublisher`] and [`Notifier`].
#[derive(Debug, Clone)]
pub struct AwsPublisher {
    /// Publishes commands to devices.
    pub commands: IotCommandPublisher,
    /// Publishes notifications of alerts.
    pub alerts: SnsNotifier,
}

impl CommandPublisher for AwsPublisher {
    async fn publish(
        &self,
        device_id: &DeviceId,
        cmd: CommandKind,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        self.commands.publish(device_id, cmd, payload).await
    }
}

impl Notifier for AwsPublisher {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.alerts.notify(notification).await
    }
}

#[cfg(test)]
mod tests {
    use meter_domain::alert::Alert;

    use super::*;

    #[test]
    fn message_has_a_document_by_default_and_a_text_for_email() {
        let at = Timestamp::from_millis(1_000).unwrap();
        let alert = Alert::device_offline(&DeviceId::parse("m").unwrap(), at);
        let notification = Notification::opened(&alert, at);
        let message: serde_json::Value = serde_json::from_str(&message(&notification)).unwrap();
        let document: serde_json::Value =
            serde_json::from_str(message["default"].as_str().unwrap()).unwrap();
        assert_eq!(document, notification.to_json());
        let text = message["email"].as_str().unwrap();
        assert!(text.starts_with("m went offline at 1970"), "{text}");
    }
}
