//! Notices of alerts on their way to people.

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

/// A notification waits in its device's state and is tried again, but a batch of telemetry waits for this call.
const MAX_ATTEMPTS: u32 = 2;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// After a failure nobody tries for so many seconds: a topic that is away must cost a batch one call, not one a device.
const FAILURE_COOLDOWN_S: i64 = 10;

/// A client that gives up soon.
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

/// The topic that notifications go to.
///
/// A standard topic, to which mail and HTTPS endpoints can subscribe, may deliver twice; the same notification has the same
/// `dedup_id`. A FIFO topic, to which only queues can, drops the repeats of five minutes itself.
#[derive(Debug, Clone)]
pub struct SnsNotifier {
    client: aws_sdk_sns::Client,
    arn: Option<String>,
    /// When it may be tried again, in seconds since the epoch.
    cooldown_until: Arc<AtomicI64>,
}

/// Why a notification was not even sent.
#[derive(Debug, thiserror::Error)]
#[error("the topic failed a moment ago")]
struct CoolingDown;

impl SnsNotifier {
    /// The topic of the settings; without one, nobody is told.
    pub fn new(clients: &Clients, arn: Option<String>) -> Self {
        Self {
            client: clients.sns.clone(),
            arn,
            cooldown_until: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }
}

/// An attribute that filter policies of subscriptions can name.
fn attribute(value: &str) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build()
}

/// A text a protocol: mail and messages are for people, everything else is for machines.
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

/// The ways out of the platform: to devices, and to people.
#[derive(Debug, Clone)]
pub struct AwsPublisher {
    /// To devices.
    pub commands: IotCommandPublisher,
    /// To people.
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
    fn machines_get_a_document_and_people_a_text() {
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
