//! The writes that ingestion and replay have in common: segments and points of messages, and device
//! states.

use meter_domain::archive::Location;
use meter_domain::message::Message;
use meter_domain::metric::{DevicePoint, Sample};
use meter_domain::segments::MessageSegment;
use meter_domain::state::DeviceState;
use meter_domain::time::DAY_S;
use meter_store::{
    BatchWriteError, MessageStore, MetricStore, StateStore, StateWrite, StoreError, Stores,
    WriteError, WriteSummary,
};

/// When a message expires, in seconds since the epoch, if messages expire after `ttl_days` days.
pub(crate) fn expiry(message: &Message, ttl_days: Option<u32>) -> Option<i64> {
    let received_s = message.received.received_at.as_seconds();
    ttl_days.map(|days| received_s + i64::from(days) * DAY_S)
}

/// Segments and points to write.
#[derive(Default)]
pub(crate) struct MessageWrites {
    segments: Vec<MessageSegment>,
    points: Vec<DevicePoint>,
}

impl MessageWrites {
    /// Adds a message with the samples whose metrics the state admits. Returns the number of
    /// samples.
    pub(crate) fn add<M: MetricStore>(
        &mut self,
        metrics: &M,
        message: &Message,
        (location, ttl): (Location, Option<i64>),
        state: &DeviceState,
    ) -> usize {
        let keep = |sample: &Sample| state.has_metric(&sample.metric);
        let (segments, points) = metrics.split_message(message, location, ttl, keep);
        let in_segments: usize = segments.iter().map(|segment| segment.samples.len()).sum();
        let samples = in_segments + points.len();
        self.segments.extend(segments);
        self.points.extend(points);
        samples
    }

    /// Writes segments and points concurrently.
    pub(crate) async fn write<S: Stores>(
        &self,
        stores: &S,
    ) -> (Result<(), BatchWriteError>, Result<WriteSummary, BatchWriteError>) {
        let segments = stores.messages().put(&self.segments);
        futures::join!(segments, stores.metrics().put_points(&self.points))
    }
}

/// Devices by the result of the write of their states.
pub(crate) struct SavedDevices<D> {
    pub(crate) saved: Vec<D>,
    pub(crate) conflicted: Vec<D>,
    pub(crate) failed: Vec<(D, StoreError)>,
}

/// Writes the states of devices.
pub(crate) async fn save_states<S: StateStore, D>(
    states: &S,
    devices: Vec<D>,
    state_write: impl Fn(&D) -> StateWrite,
) -> SavedDevices<D> {
    let writes: Vec<_> = devices.iter().map(state_write).collect();
    let results = states.save_many(&writes).await;
    let (mut saved, mut conflicted, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (device, result) in devices.into_iter().zip(results) {
        match result {
            Ok(()) => saved.push(device),
            Err(WriteError::Conflict) => conflicted.push(device),
            Err(WriteError::Store(error)) => failed.push((device, error)),
        }
    }
    SavedDevices { saved, conflicted, failed }
}
