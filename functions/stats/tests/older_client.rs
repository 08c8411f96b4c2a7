//! Clients of the earlier service run unchanged: each of their calls, in order, over stores in memory.

// clippy.toml allows these in tests, but does not see that their helpers are tests, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use alerts::Alerts;
use devices::Devices;
use meter_domain::archive::Layout;
use meter_domain::message::ReceivedMessage;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_http::Method;
use meter_http::route::{RouteMatch, Router};
use meter_http::serve::Server;
use meter_http::settings::{Api, Auth};
use meter_service::ingestion::{Delivery, Ingestion, IngestionConfig};
use meter_service::rule_cache::RuleCache;
use meter_testing::http::recorded::{
    self, ActualResponse, Captures, RecordedPublication, RecordedRequest,
};
use meter_testing::http::{TestResponse, call};
use meter_testing::memory::MemoryStores;
use stats::Stats;

type DevicesInMemory = Devices<MemoryStores>;

/// The three functions over one memory, and what API Gateway does in front of them.
struct System {
    memory: MemoryStores,
    devices: Server<DevicesInMemory>,
    alerts: Server<Alerts<MemoryStores, MemoryStores, MemoryStores>>,
    stats: Server<Stats<MemoryStores, MemoryStores, MemoryStores>>,
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
        let alerts = Alerts {
            alerts: memory.clone(),
            rules: memory.clone(),
            metrics: memory.clone(),
            hold_down_s: 300,
        };
        let stats =
            Stats { registry: memory.clone(), alerts: memory.clone(), stores: memory.clone() };
        Self {
            devices: Server::new(devices, Router::new(devices::ROUTES).unwrap(), api()),
            alerts: Server::new(alerts, Router::new(alerts::ROUTES).unwrap(), api()),
            stats: Server::new(stats, stats::router().unwrap(), api()),
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
        let path = path.split('?').next().unwrap();
        if has(devices::ROUTES, &method, path) {
            call.send(&self.devices).await
        } else if has(alerts::ROUTES, &method, path) {
            call.send(&self.alerts).await
        } else {
            call.send(&self.stats).await
        }
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

fn has<E>(routes: &'static [meter_http::Route<E>], method: &Method, path: &str) -> bool {
    matches!(Router::new(routes).unwrap().find(method, path), RouteMatch::Route(..))
}

#[tokio::test]
async fn every_call_of_the_older_client_gets_the_answer_that_it_expects() {
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
