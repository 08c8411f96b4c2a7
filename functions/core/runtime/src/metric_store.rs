//! The metric store that the settings name.

use meter_aws::settings::Tables;
use meter_aws::{Clients, Timestream, dynamodb};
use meter_domain::metric::DevicePoint;
use meter_service::in_messages::InMessages;
use meter_store::{
    MetricStore, NotStored, PointPage, PointQuery, StoreError, WindowPage, WindowQuery, Written,
};

use crate::settings;

/// See the module.
#[derive(Debug, Clone)]
pub enum Metrics {
    /// `METRIC_STORE=dynamodb`.
    InMessages(InMessages<dynamodb::Messages, dynamodb::Messages, dynamodb::States>),
    /// `METRIC_STORE=timestream`.
    Timestream(Timestream),
}

impl Metrics {
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
        Ok(Self::InMessages(InMessages { messages, rollups, states, max_gap_s }))
    }
}

// The SDK's futures are large: boxed, they are so only where Timestream is used.
impl MetricStore for Metrics {
    fn is_in_messages(&self) -> bool {
        match self {
            Self::InMessages(store) => store.is_in_messages(),
            Self::Timestream(store) => store.is_in_messages(),
        }
    }

    async fn put_points(&self, points: &[DevicePoint]) -> Result<Written, NotStored> {
        match self {
            Self::InMessages(store) => store.put_points(points).await,
            Self::Timestream(store) => Box::pin(store.put_points(points)).await,
        }
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        match self {
            Self::InMessages(store) => store.points(query).await,
            Self::Timestream(store) => Box::pin(store.points(query)).await,
        }
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        match self {
            Self::InMessages(store) => store.windows(query).await,
            Self::Timestream(store) => Box::pin(store.windows(query)).await,
        }
    }
}
