//! The metric store that is in the messages: points are read from the parts of messages, which are written
//! anyway, and windows from their rollups, where there are exact ones.

mod plan;
mod windows;

use meter_domain::metric::DevicePoint;
use meter_store::{
    BatchWriteError, MessageStore, MetricStore, PointPage, PointQuery, RollupStore, StateStore,
    StoreError, WindowPage, WindowQuery, WriteSummary,
};

use crate::point_reader;

/// See the module.
#[derive(Debug, Clone)]
pub struct MessageBackedMetricStore<M, R, S> {
    /// Where the points are.
    pub messages: M,
    /// What minutes and hours of them come to.
    pub rollups: R,
    /// What is known of the devices, with the hours whose rollups are not exact.
    pub states: S,
    /// The longest gap, in seconds, that an integral bridges.
    pub max_gap_s: u32,
}

impl<S: Clone> MessageBackedMetricStore<S, S, S> {
    /// A metric store whose ports are all one store.
    pub fn of_one(store: &S, max_gap_s: u32) -> Self {
        let (messages, rollups, states) = (store.clone(), store.clone(), store.clone());
        Self { messages, rollups, states, max_gap_s }
    }
}

impl<M, R, S> MetricStore for MessageBackedMetricStore<M, R, S>
where
    M: MessageStore,
    R: RollupStore,
    S: StateStore,
{
    fn is_message_backed(&self) -> bool {
        true
    }

    async fn put_points(&self, _: &[DevicePoint]) -> Result<WriteSummary, BatchWriteError> {
        Ok(WriteSummary::default())
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        point_reader::read(&self.messages, query).await
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        windows::read(self, query).await
    }
}

#[cfg(test)]
mod tests;
