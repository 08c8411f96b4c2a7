use meter_domain::aggregate::Window;
use meter_domain::metric::{MetricName, Point, Quality};
use meter_domain::time::Timestamp;
use serde::Serialize;

/// A point in a response.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    pub(super) time: Timestamp,
    pub(super) device_id: &'a str,
    pub(super) metric: &'a MetricName,
    pub(super) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<Quality>,
}

impl<'a> View<'a> {
    pub(super) fn new(device_id: &'a str, point: &'a Point) -> Self {
        Self {
            time: point.key.time,
            device_id,
            metric: &point.key.metric,
            value: point.value,
            unit: point.unit.as_deref().or_else(|| known_unit(&point.key.metric)),
            quality: point.quality(),
        }
    }

    /// A window, as a point at its start.
    pub(super) fn of_window(device_id: &'a str, window: &'a Window) -> Self {
        Self {
            time: window.key.start,
            device_id,
            metric: &window.key.metric,
            value: window.value,
            unit: window.unit.as_deref(),
            quality: None,
        }
    }
}

/// The unit of a known metric, for a device that sends none. A ratio has no unit.
fn known_unit(metric: &MetricName) -> Option<&'static str> {
    metric.known().map(|known| known.unit).filter(|unit| !unit.is_empty())
}
