//! The bundle of all ports over one [`MemoryStores`].

use meter_domain::archive::Location;
use meter_domain::message::Message;
use meter_domain::metric::{DevicePoint, Sample};
use meter_domain::segments::MessageSegment;
use meter_service::message_backed_metrics::MessageBackedMetricStore;
use meter_store::{
    BatchWriteError, MetricStore, PointPage, PointQuery, StoreError, Stores, WindowPage,
    WindowQuery, WriteSummary,
};

use super::MemoryStores;

/// The longest gap in seconds that an integral bridges, equal to the default of
/// `INTEGRAL_MAX_GAP_S`.
const MAX_GAP_S: u32 = 300;

type Metrics = MessageBackedMetricStore<MemoryStores, MemoryStores>;

impl MemoryStores {
    fn message_backed(&self) -> Metrics {
        MessageBackedMetricStore {
            messages: self.clone(),
            states: self.clone(),
            max_gap_s: MAX_GAP_S,
        }
    }
}

impl MetricStore for MemoryStores {
    fn split_message(
        &self,
        message: &Message,
        location: Location,
        ttl: Option<i64>,
        keep: impl Fn(&Sample) -> bool,
    ) -> (Vec<MessageSegment>, Vec<DevicePoint>) {
        self.message_backed().split_message(message, location, ttl, keep)
    }

    async fn put_points(&self, points: &[DevicePoint]) -> Result<WriteSummary, BatchWriteError> {
        self.message_backed().put_points(points).await
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        self.message_backed().points(query).await
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        self.message_backed().windows(query).await
    }
}

macro_rules! ports {
    ($($port:ident: $accessor:ident),+ $(,)?) => {
        impl Stores for MemoryStores {
            $(type $port = Self;
            fn $accessor(&self) -> &Self { self })+
        }
    };
}

ports! {
    Archive: archive,
    Messages: messages,
    Metrics: metrics,
    States: states,
    Devices: devices,
    Alerts: alerts,
    Rules: rules,
    Commands: commands,
    Publisher: publisher,
    Queue: queue,
}
