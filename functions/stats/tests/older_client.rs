//! Clients of the earlier service run unchanged: each of their recorded requests, in order, over
//! stores in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot continue"
)]

use std::path::Path;

use alerts::Alerts;
use devices::Devices;
use meter_domain::archive::Layout;
use meter_domain::message::ReceivedMessage;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_http::routes::{Function, ROUTES};
use meter_http::settings::{Api, Auth};
use meter_http::{App, Method};
use meter_service::ingestion::{Delivery, Ingestion, IngestionConfig};
use meter_service::rule_cache::RuleCache;
use meter_testing::http::recorded::{
    self, ActualResponse, Captures, RecordedPublication, RecordedRequest,
};
use meter_testing::http::{TestResponse, call};
use meter_testing::memory::MemoryStores;
use stats::Stats;

/// The functions over one store, in the place of API Gateway.
struct System {
    memory: MemoryStores,
    devices: App,
    alerts: App,
    stats: App,
}

impl System {
    fn new() -> Self {
        let memory = MemoryStores::new();
        let api = || Api { auth: Auth::None, ..Api::default() };
        let devices = Devices {
            stores: memory.clone(),
            policy: DevicePolicy::default(),
            command_timeout_s: 300,
        };
        let alerts = Alerts { stores: memory.clone(), hold_down_s: 300 };
        let stats = Stats { stores: memory.clone(), probe: memory.clone() };
        Self {
            devices: devices::app(devices, api()),
            alerts: alerts::app(alerts, api()),
            stats: stats::app(stats, api()),
            memory,
        }
    }

    async fn send(&self, memo: &Captures, sent: &RecordedRequest, now: Timestamp) -> TestResponse {
        let path = memo.substitute(&sent.path);
        let mut call = call(&sent.method, &path).at(&now.to_string());
        if let Some(body) = &sent.body {
            call = call.body(&memo.substitute_value(body, now).to_string());
        }
        for (name, value) in &sent.headers {
            call = call.header(name, value);
        }
        let method = Method::from_bytes(sent.method.as_bytes()).unwrap();
        let app = match function_of(&method, path.split('?').next().unwrap()) {
            Function::Devices => &self.devices,
            Function::Alerts => &self.alerts,
            Function::Stats => &self.stats,
        };
        call.send(app).await
    }

    async fn publish(&self, memo: &Captures, publication: &RecordedPublication, now: Timestamp) {
        let memory = &self.memory;
        let choices = IngestionConfig {
            layout: Layout::Batch,
            policy: DevicePolicy::default(),
            ttl_days: None,
            require_registration: false,
        };
        let ingestion = Ingestion::new(memory.clone(), RuleCache::new(60), choices);
        let received = ReceivedMessage {
            topic: publication.topic.clone(),
            payload: memo.substitute_value(&publication.payload, now).to_string().into(),
            received_at: now,
        };
        let delivery = Delivery { id: String::new(), received, parse_error: None };
        assert!(ingestion.ingest(&[delivery], now).await.failed.is_empty());
    }
}

/// The function that API Gateway sends a request to.
fn function_of(method: &Method, path: &str) -> Function {
    let is_match = |pattern: &str| {
        let (pattern, is_prefix) = match pattern.split_once("/{*") {
            Some((pattern, _)) => (pattern, true),
            None => (pattern, false),
        };
        let mut segments = path.split('/');
        let matches = pattern.split('/').all(|pattern| {
            segments.next().is_some_and(|segment| pattern.starts_with('{') || pattern == segment)
        });
        matches && segments.next().is_some() == is_prefix
    };
    let route = ROUTES.iter().find(|route| route.method == *method && is_match(route.path));
    route.map_or(Function::Stats, |route| route.function)
}

#[tokio::test]
async fn recorded_requests_of_the_older_client_get_the_recorded_responses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/older-client");
    let calls = recorded::load(&folder).unwrap();
    assert!(calls.len() > 50, "{}", calls.len());
    let system = System::new();
    let mut memo = Captures::default();
    let mut now = Timestamp::parse("2026-03-10T12:00:00Z").unwrap();
    for (file, call) in &calls {
        now = now.plus_seconds(1);
        if let Some(publication) = &call.publish {
            system.publish(&memo, publication, now).await;
            now = now.plus_seconds(1);
        }
        let answered = system.send(&memo, &call.request, now).await;
        let header = |name: &str| answered.header(name).map(str::to_owned);
        let got =
            ActualResponse { status: answered.status, header: &header, body: answered.text() };
        let checked = memo.check(&call.response, got);
        assert_eq!(checked, Ok(()), "{file}: {}", call.description);
    }
    assert_eq!(system.memory.published().len(), 1);
}
