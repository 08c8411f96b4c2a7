//! Whether the service works, for load balancers and people; open to everybody, so it says no more.

use std::collections::BTreeMap;

use meter_http::{ApiError, Response, StatusCode};
use meter_store::Probe;
use meter_store::error_chain;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    service: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stores: BTreeMap<&'static str, &'static str>,
}

impl Health {
    fn new(status: &'static str) -> Self {
        Self { status, service: "iot-meter", stores: BTreeMap::new() }
    }
}

/// That the service answers: this is the answer.
pub(crate) fn health() -> Result<Response, ApiError> {
    Response::ok(&Health::new("healthy"))
}

/// That the process runs.
pub(crate) fn liveness() -> Result<Response, ApiError> {
    Response::ok(&Health::new("alive"))
}

/// That the stores answer, each by name.
pub(crate) async fn readiness<P: Probe>(stores: &P) -> Result<Response, ApiError> {
    let mut words = BTreeMap::new();
    for (name, response) in stores.probe().await {
        let word = match response {
            Ok(()) => "ok",
            Err(error) => {
                tracing::error!(store = name, "does not response: {}", error_chain(&error));
                "unavailable"
            }
        };
        words.insert(name, word);
    }
    let (status, word) = if words.values().all(|word| *word == "ok") {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let health = Health { stores: words, ..Health::new(word) };
    Response::json(status, &health)
}
