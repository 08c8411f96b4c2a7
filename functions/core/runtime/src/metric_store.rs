//! The metric store that the settings select.

use std::sync::Arc;

use meter_aws::settings::Tables;
use meter_aws::{Clients, Timestream, dynamodb};
use meter_domain::archive::Location;
use meter_domain::message::Message;
use meter_domain::metric::{DevicePoint, Sample};
use meter_domain::segments::MessageSegment;
use meter_service::message_backed_metrics::MessageBackedMetricStore;
use meter_store::{
    BatchWriteError, MetricStore, PointPage, PointQuery, StoreError, WindowPage, WindowQuery,
    WriteSummary,
};
use tokio::sync::OnceCell;

use crate::settings;

/// The metric store of `METRIC_STORE`.
#[derive(Debug, Clone)]
pub enum ConfiguredMetricStore {
    /// `METRIC_STORE=dynamodb`.
    MessageBacked(MessageBackedMetricStore<dynamodb::Messages, dynamodb::States>),
    /// `METRIC_STORE=timestream`.
    Timestream(Arc<LazyTimestream>),
}

/// A database of Timestream whose endpoints are discovered at the first call, so that functions
/// that never call it need no permission to discover them.
#[derive(Debug)]
pub struct LazyTimestream {
    clients: Clients,
    database: String,
    table: String,
    max_gap_s: u32,
    connected: OnceCell<Timestream>,
}

impl LazyTimestream {
    async fn get(&self) -> Result<&Timestream, StoreError> {
        let Self { clients, database, table, max_gap_s, connected } = self;
        connected.get_or_try_init(|| Timestream::new(clients, database, table, *max_gap_s)).await
    }
}

impl ConfiguredMetricStore {
    /// The metric store of the settings.
    pub fn new(clients: &Clients, tables: &Tables, settings: &settings::Metrics) -> Self {
        let max_gap_s = settings.max_gap_s;
        match &settings.store {
            settings::MetricStore::Timestream { database, table } => {
                Self::Timestream(Arc::new(LazyTimestream {
                    clients: clients.clone(),
                    database: database.clone(),
                    table: table.clone(),
                    max_gap_s,
                    connected: OnceCell::new(),
                }))
            }
            settings::MetricStore::DynamoDb => {
                let messages = dynamodb::Messages::new(clients, tables);
                let states = dynamodb::States::new(clients, tables);
                Self::MessageBacked(MessageBackedMetricStore { messages, states, max_gap_s })
            }
        }
    }
}

impl MetricStore for LazyTimestream {
    async fn put_points(&self, points: &[DevicePoint]) -> Result<WriteSummary, BatchWriteError> {
        if points.is_empty() {
            return Ok(WriteSummary::default());
        }
        let store = self.get().await.map_err(|error| {
            let messages = points.iter().map(|point| point.point.precedence.message_id);
            BatchWriteError::new(messages, error)
        })?;
        store.put_points(points).await
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        self.get().await?.points(query).await
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        self.get().await?.windows(query).await
    }
}

// The futures of Timestream are large. They are boxed so that only its users pay for their size.
impl MetricStore for ConfiguredMetricStore {
    fn split_message(
        &self,
        message: &Message,
        location: Location,
        ttl: Option<i64>,
        keep: impl Fn(&Sample) -> bool,
    ) -> (Vec<MessageSegment>, Vec<DevicePoint>) {
        match self {
            Self::MessageBacked(store) => store.split_message(message, location, ttl, keep),
            Self::Timestream(store) => store.split_message(message, location, ttl, keep),
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
