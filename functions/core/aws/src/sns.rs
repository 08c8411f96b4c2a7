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
use meter_domain::notice::Notice;
use meter_domain::time::Timestamp;
use meter_store::{CommandPublisher, Notifier, NotifyError, PublishError};
use serde_json::json;

use super::calls::Traced;
use super::{Clients, CommandTopic};

/// A notice waits in its device's state and is tried again, but a batch of telemetry waits for this call.
const ATTEMPTS: u32 = 2;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);

/// After a failure nobody tries for so many seconds: a topic that is away must cost a batch one call, not one a device.
const PAUSE_S: i64 = 10;

/// A client that gives up soon.
pub(super) fn client(config: &SdkConfig) -> aws_sdk_sns::Client {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let config = aws_sdk_sns::config::Builder::from(config)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts)
        .interceptor(Traced);
    aws_sdk_sns::Client::from_conf(config.build())
}

/// The topic that notices go to.
///
/// A standard topic, to which mail and HTTPS endpoints can subscribe, may deliver twice; the same notice has the same
/// `dedup_id`. A FIFO topic, to which only queues can, drops the repeats of five minutes itself.
#[derive(Debug, Clone)]
pub struct AlertTopic {
    client: aws_sdk_sns::Client,
    arn: Option<String>,
    /// When it may be tried again, in seconds since the epoch.
    paused_until: Arc<AtomicI64>,
}

/// Why a notice was not even sent.
#[derive(Debug, thiserror::Error)]
#[error("the topic failed a moment ago")]
struct Paused;

impl AlertTopic {
    /// The topic of the settings; without one, nobody is told.
    pub fn new(clients: &Clients, arn: Option<String>) -> Self {
        Self { client: clients.sns.clone(), arn, paused_until: Arc::new(AtomicI64::new(i64::MIN)) }
    }
}

/// An attribute that filter policies of subscriptions can name.
fn attribute(value: &str) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build()
}

/// A text a protocol: mail and messages are for people, everything else is for machines.
fn message(notice: &Notice) -> String {
    let document = notice.document().to_string();
    json!({"default": document, "email": notice.text(), "sms": notice.line()}).to_string()
}

impl Notifier for AlertTopic {
    async fn notify(&self, notice: &Notice) -> Result<(), NotifyError> {
        let Some(arn) = &self.arn else { return Ok(()) };
        let now = Timestamp::now().as_seconds();
        if now < self.paused_until.load(Ordering::Relaxed) {
            return Err(NotifyError(Paused.into()));
        }
        let mut publish = self
            .client
            .publish()
            .topic_arn(arn)
            .subject(notice.subject())
            .message_structure("json")
            .message(message(notice));
        for (name, value) in [
            ("severity", notice.severity.as_str()),
            ("device_id", notice.device_id.as_str()),
            ("alert_type", &notice.alert_type),
            ("event", notice.event.as_str()),
            ("dedup_id", &notice.dedup_id()),
        ] {
            let value = attribute(value).map_err(|error| NotifyError(error.into()))?;
            publish = publish.message_attributes(name, value);
        }
        if arn.ends_with(".fifo") {
            publish = publish
                .message_group_id(notice.device_id.as_str())
                .message_deduplication_id(notice.dedup_id());
        }
        match publish.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.paused_until.store(now + PAUSE_S, Ordering::Relaxed);
                Err(NotifyError(error.into()))
            }
        }
    }
}

/// The ways out of the platform: to devices, and to people.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// To devices.
    pub commands: CommandTopic,
    /// To people.
    pub alerts: AlertTopic,
}

impl CommandPublisher for Publisher {
    async fn publish(
        &self,
        device_id: &DeviceId,
        cmd: CommandKind,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        self.commands.publish(device_id, cmd, payload).await
    }
}

impl Notifier for Publisher {
    async fn notify(&self, notice: &Notice) -> Result<(), NotifyError> {
        self.alerts.notify(notice).await
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
        let notice = Notice::opened(&alert, at);
        let message: serde_json::Value = serde_json::from_str(&message(&notice)).unwrap();
        let document: serde_json::Value =
            serde_json::from_str(message["default"].as_str().unwrap()).unwrap();
        assert_eq!(document, notice.document());
        let text = message["email"].as_str().unwrap();
        assert!(text.starts_with("m went offline at 1970"), "{text}");
    }
}
