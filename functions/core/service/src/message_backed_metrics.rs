//! A metric store whose points are the samples in the segments of messages. Windows are read from
//! rollups where these are up to date.

mod plan;
mod windows;

use meter_domain::archive::Location;
use meter_domain::message::Message;
use meter_domain::metric::{DevicePoint, Sample};
use meter_domain::segments::{self, MessageSegment};
use meter_store::{
    BatchWriteError, MessageStore, MetricStore, PointPage, PointQuery, RollupStore, StateStore,
    StoreError, WindowPage, WindowQuery, WriteSummary,
};

use crate::point_reader;

/// A metric store that reads the segments of messages and their rollups.
#[derive(Debug, Clone)]
pub struct MessageBackedMetricStore<M, S> {
    /// The segments and the rollups.
    pub messages: M,
    /// The device states, which contain the metrics of a device and its pending rollups.
    pub states: S,
    /// The longest gap in seconds that an integral bridges.
    pub max_gap_s: u32,
}

impl<M: MessageStore + RollupStore, S: StateStore> MetricStore for MessageBackedMetricStore<M, S> {
    fn split_message(
        &self,
        message: &Message,
        location: Location,
        ttl: Option<i64>,
        keep: impl Fn(&Sample) -> bool,
    ) -> (Vec<MessageSegment>, Vec<DevicePoint>) {
        (segments::split(message, location, ttl, keep), Vec::new())
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
