//! The metric store that the settings name.

use meter_aws::settings::Tables;
use meter_aws::{Clients, Timestream, dynamodb};
use meter_domain::metric::DevicePoint;
use meter_service::message_backed_metrics::MessageBackedMetricStore;
use meter_store::{
    BatchWriteError, MetricStore, PointPage, PointQuery, StoreError, WindowPage, WindowQuery,
    WriteSummary,
};

use crate::settings;

/// See the module.
#[derive(Debug, Clone)]
pub enum ConfiguredMetricStore {
    /// `METRIC_STORE=dynamodb`.
    MessageBacked(
        MessageBackedMetricStore<dynamodb::Messages, dynamodb::Messages, dynamodb::States>,
    ),
    /// `METRIC_STORE=timestream`.
    Timestream(Timestream),
}

impl ConfiguredMetricStore {
    /// The one that the settings name. Fails when Timestream does not say where it is.
    pub async fn new(
        clients: &Clients,
        tables: &Tables,
        settings: &settings::Metrics,
    ) -> Result<Self, StoreError> {
        let max_gap_s = settings.max_gap_s;
        if let settings::MetricStore::Timestream { database, table } = &settings.store {
            let store = Box::pin(Timestream::new(clients, database, table, max_gap_s)).await?;
            return Ok(Self::Timestream(store));
        }
        let messages = dynamodb::Messages::new(clients, tables);
        let states = dynamodb::States::new(clients, tables);
        let rollups = messages.clone();
        Ok(Self::MessageBacked(MessageBackedMetricStore { messages, rollups, states, max_gap_s }))
    }
}

// The SDK's futures are large: boxed, they are so only where Timestream is used.
impl MetricStore for ConfiguredMetricStore {
    fn is_message_backed(&self) -> bool {
        match self {
            Self::MessageBacked(store) => store.is_message_backed(),
            Self::Timestream(store) => store.is_message_backed(),
        }
    }

    async fn put_points(&self, points: &[DevicePoint]) -> Result<WriteSummary, BatchWriteError> {
        match self {
            Self::MessageBacked(store) => store.put_points(points).await,
            Self::Timestream(store) => Box::pin(store.put_points(points)).await,
        }
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        match self {
            Self::MessageBacked(store) => store.points(query).await,
            Self::Timestream(store) => Box::pin(store.points(query)).await,
        }
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        match self {
            Self::MessageBacked(store) => store.windows(query).await,
            Self::Timestream(store) => Box::pin(store.windows(query)).await,
        }
    }
}
