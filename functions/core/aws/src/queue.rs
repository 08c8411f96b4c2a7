//! The queue between the IoT rules and ingest, as far as others than ingest look at it.

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use meter_store::{QueueDepth, StoreError};

use super::Clients;
use crate::error::classify;
use crate::settings;

/// The ingest queue: its [`QueueDepth`].
#[derive(Debug, Clone)]
pub struct IngestQueue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl IngestQueue {
    /// The queue of this URL.
    pub fn new(clients: &Clients, queue: &settings::IngestQueue) -> Self {
        Self { client: clients.sqs.clone(), url: queue.url.clone() }
    }
}

/// Those that wait, and those that a function has got and not finished.
const DEPTH_ATTRIBUTES: [Attribute; 2] =
    [Attribute::ApproximateNumberOfMessages, Attribute::ApproximateNumberOfMessagesNotVisible];

impl QueueDepth for IngestQueue {
    async fn depth(&self) -> Result<u64, StoreError> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .set_attribute_names(Some(DEPTH_ATTRIBUTES.to_vec()))
            .send()
            .await
            .map_err(classify("sqs:GetQueueAttributes"))?;
        let counts = answer.attributes.unwrap_or_default();
        DEPTH_ATTRIBUTES.iter().try_fold(0_u64, |sum, name| {
            let count = counts.get(name).and_then(|digits| digits.parse::<u64>().ok());
            let count = count.ok_or_else(|| StoreError::Corrupt {
                what: format!("attributes of {}", self.url),
                reason: format!("{name} is no count: {counts:?}"),
            })?;
            Ok(sum.saturating_add(count))
        })
    }
}
