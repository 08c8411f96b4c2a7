//! Publication of commands to the MQTT broker.

use std::error::Error;
use std::io;

use aws_sdk_iotdataplane::Client;
use aws_sdk_iotdataplane::config::retry::RetryConfig;
use aws_sdk_iotdataplane::error::SdkError;
use aws_sdk_iotdataplane::primitives::Blob;
use bytes::Bytes;
use meter_domain::command::CommandKind;
use meter_domain::id::DeviceId;
use meter_store::{CommandPublisher, PublishError};

use super::Clients;

/// QoS 1: devices ignore a command whose id they have already received.
const QOS_AT_LEAST_ONCE: i32 = 1;

/// Publishes commands to the topic of each device, `iot/{device_id}/command`.
#[derive(Debug, Clone)]
pub struct IotCommandPublisher {
    client: Client,
    /// For commands that must not be sent twice: a call without a response may have succeeded.
    without_retries: Client,
}

impl IotCommandPublisher {
    /// Creates a publisher for IoT Core or its emulator.
    pub fn new(clients: &Clients) -> Self {
        let client = clients.iot_data.clone();
        let without_retries = client.config().to_builder().retry_config(RetryConfig::disabled());
        Self { client, without_retries: Client::from_conf(without_retries.build()) }
    }
}

impl CommandPublisher for IotCommandPublisher {
    async fn publish(
        &self,
        device_id: &DeviceId,
        cmd: CommandKind,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let client = if cmd.is_idempotent() { &self.client } else { &self.without_retries };
        client
            .publish()
            .topic(format!("iot/{device_id}/command"))
            .qos(QOS_AT_LEAST_ONCE)
            .payload(Blob::new(payload))
            .send()
            .await
            .map(drop)
            .map_err(|error| match is_definitely_unsent(&error) {
                true => PublishError::Rejected(error.into()),
                false => PublishError::OutcomeUnknown(error.into()),
            })
    }
}

/// Returns whether the broker certainly did not receive the command. The last attempt decides: only
/// commands that may be sent twice have several.
fn is_definitely_unsent<E: Error + 'static>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().is_some_and(|error| is_connection_refused(error))
        }
        // A 5xx response may follow the publication, except for 503, which rejects the request.
        SdkError::ServiceError(response) => {
            matches!(response.raw().status().as_u16(), 400..500 | 503)
        }
        _ => false,
    }
}

/// Returns whether the connection was refused, so that nothing was sent.
fn is_connection_refused(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}
