//! The depth of the queue between the IoT rules and ingest.

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use meter_store::{QueueDepth, StoreError};

use super::Clients;
use crate::error::classify;
use crate::settings;

/// Implements [`QueueDepth`] with the ingest queue.
#[derive(Debug, Clone)]
pub struct IngestQueue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl IngestQueue {
    /// Creates the adapter.
    pub fn new(clients: &Clients, queue: &settings::IngestQueue) -> Self {
        Self { client: clients.sqs.clone(), url: queue.url.clone() }
    }
}

/// The numbers of waiting messages and of messages in flight.
const DEPTH_ATTRIBUTES: [Attribute; 2] =
    [Attribute::ApproximateNumberOfMessages, Attribute::ApproximateNumberOfMessagesNotVisible];

impl QueueDepth for IngestQueue {
    async fn depth(&self) -> Result<u64, StoreError> {
        let response = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .set_attribute_names(Some(DEPTH_ATTRIBUTES.to_vec()))
            .send()
            .await
            .map_err(classify("sqs:GetQueueAttributes"))?;
        let counts = response.attributes.unwrap_or_default();
        DEPTH_ATTRIBUTES.iter().try_fold(0_u64, |sum, name| {
            let count = counts.get(name).and_then(|digits| digits.parse::<u64>().ok());
            let count = count.ok_or_else(|| StoreError::Corrupt {
                what: format!("attributes of {}", self.url),
                reason: format!("{name} is not a count: {counts:?}"),
            })?;
            Ok(sum.saturating_add(count))
        })
    }
}
