//! Health checks for load balancers and operators. They are public and return no details.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use meter_http::StatusCode;
use meter_store::{Probe, Stores, error_chain};
use serde::Serialize;

use crate::Stats;

#[derive(Debug, Serialize)]
pub(crate) struct Health {
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

/// Responds that the service responds.
pub(crate) async fn health() -> Json<Health> {
    Json(Health::new("healthy"))
}

/// Responds that the process runs.
pub(crate) async fn liveness() -> Json<Health> {
    Json(Health::new("alive"))
}

/// Responds whether each store is available, by name.
pub(crate) async fn readiness<S: Stores, P: Probe>(
    State(Stats { probe, .. }): State<Stats<S, P>>,
) -> (StatusCode, Json<Health>) {
    let mut stores = BTreeMap::new();
    for (name, available) in probe.probe().await {
        let word = match available {
            Ok(()) => "ok",
            Err(error) => {
                tracing::error!(store = name, "a store is unavailable: {}", error_chain(&error));
                "unavailable"
            }
        };
        stores.insert(name, word);
    }
    let (status, word) = if stores.values().all(|word| *word == "ok") {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (status, Json(Health { stores, ..Health::new(word) }))
}
