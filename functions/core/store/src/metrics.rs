//! The time series.

use std::future::Future;

use meter_domain::aggregate::{Aggregate, Window, WindowKey, WindowSize};
use meter_domain::archive::Location;
use meter_domain::id::DeviceId;
use meter_domain::message::Message;
use meter_domain::metric::{DevicePoint, MetricName, Point, PointKey, Sample};
use meter_domain::segments::{self, MessageSegment};
use meter_domain::time::Timestamp;

use super::{BatchWriteError, StoreError};

/// Which points.
#[derive(Debug, Clone)]
pub struct PointQuery {
    /// Whose.
    pub device_id: DeviceId,
    /// From this instant on.
    pub start: Timestamp,
    /// Up to but without this one.
    pub stop: Timestamp,
    /// Of one metric; none: of all.
    pub metric: Option<MetricName>,
    /// Only what comes after this.
    pub after: Option<PointKey>,
    /// At most so many.
    pub limit: usize,
}

/// Some points.
#[derive(Debug, Clone, PartialEq)]
pub struct PointPage {
    /// By time, metric and sample_index; each point once, of the message with the greater claim.
    pub points: Vec<Point>,
    /// Everything up to here is read, and there may be more: the `after` of the next query.
    pub next: Option<PointKey>,
}

/// Which windows.
#[derive(Debug, Clone)]
pub struct WindowQuery {
    /// Whose.
    pub device_id: DeviceId,
    /// Points from this instant on count.
    pub start: Timestamp,
    /// Points up to but without this one count.
    pub stop: Timestamp,
    /// Of one metric; none: of all.
    pub metric: Option<MetricName>,
    /// How wide.
    pub every: WindowSize,
    /// What is made of each.
    pub aggregate: Aggregate,
    /// Only what comes after this.
    pub after: Option<WindowKey>,
    /// At most so many.
    pub limit: usize,
}

/// Some windows.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowPage {
    /// By start and metric; those without points left out.
    pub windows: Vec<Window>,
    /// Everything up to here is read, and there may be more: the `after` of the next query.
    pub next: Option<WindowKey>,
}

/// What became of points that were not refused for a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteSummary {
    /// Points that the store does not take any more, since they are older than it keeps any. They are in the
    /// archive.
    pub outside_retention: usize,
    /// Records that were not written since another message, with a greater claim, has said the same instant.
    pub superseded: usize,
}

/// The time series of a fleet.
pub trait MetricStore: Send + Sync {
    /// Divides a message into the segments that the message store stores and the points that this
    /// store stores. The samples for which `keep` returns true are in one of them: by default in the
    /// points.
    fn split_message(
        &self,
        message: &Message,
        location: Location,
        ttl: Option<i64>,
        keep: impl Fn(&Sample) -> bool,
    ) -> (Vec<MessageSegment>, Vec<DevicePoint>) {
        let index = segments::without_samples(message, location, ttl);
        (vec![index], segments::points(message, keep))
    }

    /// Stores points. Of two for one key the greater claim stands, in whatever order they come; the same
    /// point again is no error.
    fn put_points(
        &self,
        points: &[DevicePoint],
    ) -> impl Future<Output = Result<WriteSummary, BatchWriteError>> + Send;

    /// A page of points.
    fn points(
        &self,
        query: &PointQuery,
    ) -> impl Future<Output = Result<PointPage, StoreError>> + Send;

    /// A page of windows.
    fn windows(
        &self,
        query: &WindowQuery,
    ) -> impl Future<Output = Result<WindowPage, StoreError>> + Send;
}
