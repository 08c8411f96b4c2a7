//! REST: registry, presence, configuration, metrics, raw data, quarantine, commands (docs/api.md).
//!
//! One file an action.

mod commands;
mod config;
mod presence;
mod registry;
mod telemetry;

use axum::Router;
use axum::routing::{get, post, put};
use meter_domain::state::DevicePolicy;
use meter_http::routes::Function;
use meter_http::settings::Api;
use meter_http::{App, Problem};
use meter_store::Stores;

use crate::telemetry::{metrics, quarantine, raw_data};

/// The state of the handlers.
#[derive(Debug, Clone)]
pub struct Devices<S> {
    /// The stores.
    pub stores: S,
    /// The settings that apply to all devices.
    pub policy: DevicePolicy,
    /// Seconds until a command expires.
    pub command_timeout_s: u32,
}

/// The function over its stores.
pub fn app<S: Stores>(devices: Devices<S>, api: Api) -> App {
    let routes = Router::new()
        .route("/api/devices", get(registry::list).post(registry::create))
        .route(
            "/api/devices/{device_id}",
            get(registry::get).put(registry::update).delete(registry::delete),
        )
        .route("/api/devices/{device_id}/heartbeat", post(presence::heartbeat))
        .route("/api/devices/{device_id}/status", get(presence::get).put(presence::put))
        .route("/api/devices/{device_id}/config", get(config::get).put(config::put))
        .route("/api/devices/{device_id}/metrics", get(metrics::list))
        .route("/api/devices/{device_id}/metrics/latest", get(metrics::latest))
        .route("/api/devices/{device_id}/raw-data", get(raw_data::list))
        .route("/api/devices/{device_id}/raw-data/{*filename}", get(raw_data::get))
        .route("/api/quarantine", get(quarantine::list))
        .route("/api/quarantine/{id}", get(quarantine::get))
        .route("/api/devices/{device_id}/commands", get(commands::list).post(commands::create))
        .route("/api/commands/{cmd_id}/ack", put(commands::acknowledge))
        .with_state(devices);
    App::new(Function::Devices, routes, api)
}

/// 404: the device is not registered.
fn device_not_found() -> Problem {
    Problem::not_found("Device")
}
