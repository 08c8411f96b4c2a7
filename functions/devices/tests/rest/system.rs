//! The function under test and its surroundings.

use devices::Devices;
use meter_domain::archive::Layout;
use meter_domain::id::DeviceId;
use meter_domain::message::ReceivedMessage;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_http::App;
use meter_http::settings::{Api, Auth};
use meter_service::ingestion::{Delivery, Ingestion, IngestionConfig};
use meter_service::rule_cache::RuleCache;
use meter_testing::http::{TestRequest, TestResponse, get, post};
use meter_testing::memory::MemoryStores;
use serde_json::{Value, json};

pub(crate) struct System {
    pub(crate) memory: MemoryStores,
    pub(crate) layout: Layout,
    app: App,
}

pub(crate) fn device_id(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

pub(crate) fn t(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

impl System {
    pub(crate) fn new() -> Self {
        Self::with_memory(MemoryStores::new(), Auth::None)
    }

    /// A system with a limit of the response size in bytes.
    pub(crate) fn with_response_limit(max_response_bytes: u32) -> Self {
        let api = Api { auth: Auth::None, max_response_bytes, ..Api::default() };
        Self::with_api(MemoryStores::new(), api)
    }

    pub(crate) fn with_memory(memory: MemoryStores, auth: Auth) -> Self {
        Self::with_api(memory, Api { auth, ..Api::default() })
    }

    fn with_api(memory: MemoryStores, api: Api) -> Self {
        let devices = Devices {
            stores: memory.clone(),
            policy: DevicePolicy::default(),
            command_timeout_s: 300,
        };
        Self { memory, layout: Layout::Batch, app: devices::app(devices, api) }
    }

    pub(crate) async fn call(&self, call: TestRequest) -> TestResponse {
        call.send(&self.app).await
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.call(get(path)).await
    }

    /// The body of a GET that must succeed.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let answered = self.get(path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.text());
        answered.json()
    }

    pub(crate) async fn register(&self, id: &str) -> Value {
        let body = json!({"device_id": id, "device_name": format!("Meter {id}")});
        let answered = self.call(post("/api/devices").json(&body)).await;
        assert_eq!(answered.status, 201, "{}", answered.text());
        answered.json()
    }

    /// Ingests messages in one batch.
    pub(crate) async fn receive(&self, messages: &[(&str, Vec<u8>, &str)]) {
        let memory = &self.memory;
        let choices = IngestionConfig {
            layout: self.layout,
            policy: DevicePolicy::default(),
            ttl_days: None,
            require_registration: false,
        };
        let ingestion = Ingestion::new(memory.clone(), RuleCache::new(60), choices);
        let deliveries: Vec<_> = messages
            .iter()
            .map(|(topic, payload, received_at)| Delivery {
                id: String::new(),
                received: ReceivedMessage {
                    topic: (*topic).to_owned(),
                    payload: payload.clone().into(),
                    received_at: t(received_at),
                },
                parse_error: None,
            })
            .collect();
        let outcome = ingestion.ingest(&deliveries, Timestamp::now()).await;
        assert!(outcome.failed.is_empty());
    }

    /// One telemetry message of a device, sent and received at `ts`.
    pub(crate) async fn telemetry(&self, id: &str, ts: &str, measurements: Value) {
        let message = telemetry(id, ts, measurements);
        self.receive(&[(&format!("iot/{id}/telemetry"), message, ts)]).await;
    }

    /// Every page of a list; fails if the list has no end.
    pub(crate) async fn pages(&self, first: TestRequest) -> Vec<TestResponse> {
        let mut pages = vec![self.call(first.clone()).await];
        while let Some(next) = pages.last().and_then(TestResponse::next) {
            let page = self.call(first.clone().with_path(next)).await;
            assert_eq!(page.status, 200, "{}", page.text());
            pages.push(page);
            assert!(pages.len() < 1_000, "no end");
        }
        pages
    }

    /// The items of every page of a list.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let pages = self.pages(get(path)).await;
        pages.iter().flat_map(|page| page.json().as_array().unwrap().clone()).collect()
    }
}

/// A telemetry message of version 2 with an arbitrary sequence number.
pub(crate) fn telemetry(id: &str, ts: &str, measurements: Value) -> Vec<u8> {
    let message = json!({"v": 2, "device_id": id, "ts": ts, "seq": 1, "msg_type": "telemetry",
        "measurements": measurements});
    message.to_string().into_bytes()
}

/// The value of a member of each item.
pub(crate) fn field<'a>(items: impl IntoIterator<Item = &'a Value>, name: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    items.into_iter().map(|item| text(&item[name])).collect()
}
