//! The port of the time series.

use std::future::Future;

use meter_domain::aggregate::{Aggregate, Window, WindowKey, WindowSize};
use meter_domain::archive::Location;
use meter_domain::id::DeviceId;
use meter_domain::message::Message;
use meter_domain::metric::{DevicePoint, MetricName, Point, PointKey, Sample};
use meter_domain::segments::{self, MessageSegment};
use meter_domain::time::Timestamp;

use super::{BatchWriteError, StoreError};

/// A range of points of one device.
#[derive(Debug, Clone)]
pub struct PointQuery {
    /// The device.
    pub device_id: DeviceId,
    /// The start of the range, inclusive.
    pub start: Timestamp,
    /// The end of the range, exclusive.
    pub stop: Timestamp,
    /// The metric; `None` selects all.
    pub metric: Option<MetricName>,
    /// The key after which the page starts.
    pub after: Option<PointKey>,
    /// The maximum number of points.
    pub limit: usize,
}

/// A page of points.
#[derive(Debug, Clone, PartialEq)]
pub struct PointPage {
    /// By time, metric and sample index, without superseded points.
    pub points: Vec<Point>,
    /// The `after` of the next query; `None` on the last page.
    pub next: Option<PointKey>,
}

/// A range of windows of one device.
#[derive(Debug, Clone)]
pub struct WindowQuery {
    /// The device.
    pub device_id: DeviceId,
    /// The start of the range of points, inclusive.
    pub start: Timestamp,
    /// The end of the range of points, exclusive.
    pub stop: Timestamp,
    /// The metric; `None` selects all.
    pub metric: Option<MetricName>,
    /// The window size.
    pub every: WindowSize,
    /// The aggregate to compute for each window.
    pub aggregate: Aggregate,
    /// The key after which the page starts.
    pub after: Option<WindowKey>,
    /// The maximum number of windows.
    pub limit: usize,
}

/// A page of windows.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowPage {
    /// By start and metric, without windows that have no points.
    pub windows: Vec<Window>,
    /// The `after` of the next query; `None` on the last page.
    pub next: Option<WindowKey>,
}

/// The numbers of points that a successful write did not store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteSummary {
    /// Points older than the retention of the store. They remain in the archive.
    pub outside_retention: usize,
    /// Points that are superseded by another message.
    pub superseded: usize,
}

/// Stores and aggregates the points of all devices.
pub trait MetricStore: Send + Sync {
    /// Divides a message into the segments that the message store stores and the points that this
    /// store stores. The samples for which `keep` returns true are in one of them: by default in
    /// the points.
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

    /// Stores points; of two points with the same key, the one with precedence is kept in any order
    /// of arrival.
    fn put_points(
        &self,
        points: &[DevicePoint],
    ) -> impl Future<Output = Result<WriteSummary, BatchWriteError>> + Send;

    /// Returns a page of points.
    fn points(
        &self,
        query: &PointQuery,
    ) -> impl Future<Output = Result<PointPage, StoreError>> + Send;

    /// Returns a page of windows.
    fn windows(
        &self,
        query: &WindowQuery,
    ) -> impl Future<Output = Result<WindowPage, StoreError>> + Send;
}
