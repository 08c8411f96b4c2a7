//! The metric store that the settings name.

use super::{Clients, dynamodb};
use crate::config::{self, Tables};
use crate::in_messages::InMessages;
use crate::store::{
    DevicePoint, MetricStore, NotStored, PointPage, PointQuery, StoreError, WindowPage,
    WindowQuery, Written,
};

/// See the module.
#[derive(Debug, Clone)]
pub enum Metrics {
    /// `METRIC_STORE=dynamodb`.
    InMessages(InMessages<dynamodb::Messages, dynamodb::Messages, dynamodb::States>),
}

impl Metrics {
    /// The one that the settings name.
    pub fn new(clients: &Clients, tables: &Tables, settings: &config::Metrics) -> Self {
        let messages = dynamodb::Messages::new(clients, tables);
        Self::InMessages(InMessages {
            messages: messages.clone(),
            rollups: messages,
            states: dynamodb::States::new(clients, tables),
            max_gap_s: settings.max_gap_s,
        })
    }
}

impl MetricStore for Metrics {
    fn is_in_messages(&self) -> bool {
        match self {
            Self::InMessages(store) => store.is_in_messages(),
        }
    }

    async fn put_points(&self, points: &[DevicePoint]) -> Result<Written, NotStored> {
        match self {
            Self::InMessages(store) => store.put_points(points).await,
        }
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        match self {
            Self::InMessages(store) => store.points(query).await,
        }
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        match self {
            Self::InMessages(store) => store.windows(query).await,
        }
    }
}
