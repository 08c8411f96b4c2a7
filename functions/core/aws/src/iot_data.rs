//! Commands on their way to the broker.

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

/// QoS 1, at least without_retries: a command carries an id, and a device ignores one that it knows.
const QOS_AT_LEAST_ONCE: i32 = 1;

/// The command topic of each device, `iot/{device_id}/command`.
#[derive(Debug, Clone)]
pub struct IotCommandPublisher {
    client: Client,
    /// The same, but that it tries nothing twice: a call whose answer was lost was done, perhaps.
    without_retries: Client,
}

impl IotCommandPublisher {
    /// The topics of IoT Core, or of the edge that stands in for it.
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

/// Whether it is known that the broker has not taken what could not be published. The last try decides: where there
/// were others, they were of a command that may be sent twice.
fn is_definitely_unsent<E: Error + 'static>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().is_some_and(|error| is_connection_refused(error))
        }
        // 5xx may come from behind the place where it was taken; 503 is what turns away at the door.
        SdkError::ServiceError(answer) => matches!(answer.raw().status().as_u16(), 400..500 | 503),
        _ => false,
    }
}

/// Whether the connection was refused, so that nothing can have been sent over it.
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
