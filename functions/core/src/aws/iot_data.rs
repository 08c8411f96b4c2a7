//! Commands on their way to the broker.

use aws_sdk_iotdataplane::primitives::Blob;
use bytes::Bytes;

use super::Clients;
use crate::id::DeviceId;
use crate::store::{CommandPublisher, PublishError};

/// QoS 1, at least once: a command carries an id, and a device ignores one that it knows.
const AT_LEAST_ONCE: i32 = 1;

/// The command topic of each device, `iot/{device_id}/command`.
#[derive(Debug, Clone)]
pub struct CommandTopic {
    client: aws_sdk_iotdataplane::Client,
}

impl CommandTopic {
    /// The topics of IoT Core, or of the edge that stands in for it.
    pub fn new(clients: &Clients) -> Self {
        Self { client: clients.iot_data.clone() }
    }
}

impl CommandPublisher for CommandTopic {
    async fn publish(&self, device_id: &DeviceId, payload: Bytes) -> Result<(), PublishError> {
        self.client
            .publish()
            .topic(format!("iot/{device_id}/command"))
            .qos(AT_LEAST_ONCE)
            .payload(Blob::new(payload))
            .send()
            .await
            .map_err(|error| PublishError(error.into()))?;
        Ok(())
    }
}
