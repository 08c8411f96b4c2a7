//! REST: registry, presence, configuration, metrics, raw data, quarantine, commands (docs/api.md).
//!
//! One file an action. Each handler is generic over just the ports that it uses.

mod commands;
mod config;
mod presence;
mod registry;
mod telemetry;

use meter_domain::id::DeviceId;
use meter_domain::state::DevicePolicy;
use meter_http::route::{Route, RouteAuth};
use meter_http::serve::Function;
use meter_http::{ApiError, Method, Problem, Request, Response};
use meter_store::Stores;

/// What this function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The fleet.
    ListDevices,
    /// Registers a device.
    CreateDevice,
    /// A device.
    GetDevice,
    /// Changes a device.
    UpdateDevice,
    /// Removes a device and what hangs on it.
    DeleteDevice,
    /// A sign of life over HTTP.
    Heartbeat,
    /// Whether a device is connected.
    GetStatus,
    /// An operator's word on whether it is.
    PutStatus,
    /// The configuration in force.
    GetConfig,
    /// Merges into the stored configuration.
    PutConfig,
    /// Points of a time range.
    ListMetrics,
    /// The newest point of each metric.
    LatestMetrics,
    /// Messages as received.
    ListRawData,
    /// One message as received.
    GetRawData,
    /// What could not be read.
    ListQuarantine,
    /// The bytes of what could not be read.
    GetQuarantined,
    /// A device's commands.
    ListCommands,
    /// Stores and publishes a command.
    CreateCommand,
    /// A device's answer to a command, over HTTP.
    AcknowledgeCommand,
}

/// The routes of this function.
pub const ROUTES: &[Route<Endpoint>] = &[
    Route::new(Method::GET, "/api/devices", Endpoint::ListDevices),
    Route::new(Method::POST, "/api/devices", Endpoint::CreateDevice),
    Route::new(Method::GET, "/api/devices/{device_id}", Endpoint::GetDevice),
    Route::new(Method::PUT, "/api/devices/{device_id}", Endpoint::UpdateDevice),
    Route::new(Method::DELETE, "/api/devices/{device_id}", Endpoint::DeleteDevice),
    Route::new(Method::POST, "/api/devices/{device_id}/heartbeat", Endpoint::Heartbeat),
    Route::new(Method::GET, "/api/devices/{device_id}/status", Endpoint::GetStatus),
    Route::new(Method::PUT, "/api/devices/{device_id}/status", Endpoint::PutStatus),
    Route::new(Method::GET, "/api/devices/{device_id}/config", Endpoint::GetConfig),
    Route::new(Method::PUT, "/api/devices/{device_id}/config", Endpoint::PutConfig),
    Route::new(Method::GET, "/api/devices/{device_id}/metrics", Endpoint::ListMetrics),
    Route::new(Method::GET, "/api/devices/{device_id}/metrics/latest", Endpoint::LatestMetrics),
    Route::new(Method::GET, "/api/devices/{device_id}/raw-data", Endpoint::ListRawData),
    Route::new(Method::GET, "/api/devices/{device_id}/raw-data/{*filename}", Endpoint::GetRawData),
    Route::new(Method::GET, "/api/quarantine", Endpoint::ListQuarantine),
    Route::new(Method::GET, "/api/quarantine/{id}", Endpoint::GetQuarantined),
    Route::new(Method::GET, "/api/devices/{device_id}/commands", Endpoint::ListCommands),
    Route::new(Method::POST, "/api/devices/{device_id}/commands", Endpoint::CreateCommand),
    Route::new(Method::PUT, "/api/commands/{cmd_id}/ack", Endpoint::AcknowledgeCommand),
];

// Nothing of a device is for everybody.
const _: () = {
    let mut i = 0;
    while i < ROUTES.len() {
        assert!(matches!(ROUTES[i].auth, RouteAuth::Scoped));
        i += 1;
    }
};

/// The function, over its stores.
#[derive(Debug, Clone)]
pub struct Devices<S> {
    /// The ports of the system.
    pub stores: S,
    /// What holds for devices.
    pub policy: DevicePolicy,
    /// Seconds until a command expires.
    pub command_timeout_s: u32,
}

impl<S: Stores> Function for Devices<S> {
    type Endpoint = Endpoint;

    async fn handle(&self, endpoint: Endpoint, request: &Request) -> Result<Response, ApiError> {
        let Self { stores, policy, command_timeout_s } = self;
        let (states, commands, registry) = (stores.states(), stores.commands(), stores.devices());
        let (messages, metrics, archive) = (stores.messages(), stores.metrics(), stores.archive());
        match endpoint {
            Endpoint::ListDevices => registry::list(registry, states, request).await,
            Endpoint::CreateDevice => registry::create(stores, policy, request).await,
            Endpoint::GetDevice => registry::get(registry, states, request).await,
            Endpoint::UpdateDevice => registry::update(registry, states, request).await,
            Endpoint::DeleteDevice => registry::delete(stores, policy, request).await,
            Endpoint::Heartbeat => presence::heartbeat(stores, policy, request).await,
            Endpoint::GetStatus => presence::get(states, request).await,
            Endpoint::PutStatus => presence::put(stores, policy, request).await,
            Endpoint::GetConfig => config::get(registry, request).await,
            Endpoint::PutConfig => config::put(stores, policy, request).await,
            Endpoint::ListMetrics => telemetry::metrics::list(metrics, request).await,
            Endpoint::LatestMetrics => telemetry::metrics::latest(states, request).await,
            Endpoint::ListRawData => telemetry::raw_data::list(messages, archive, request).await,
            Endpoint::GetRawData => telemetry::raw_data::get(messages, archive, request).await,
            Endpoint::ListQuarantine => telemetry::quarantine::list(messages, request).await,
            Endpoint::GetQuarantined => {
                telemetry::quarantine::get(messages, archive, request).await
            }
            Endpoint::ListCommands => commands::list(commands, request).await,
            Endpoint::CreateCommand => commands::create(stores, *command_timeout_s, request).await,
            Endpoint::AcknowledgeCommand => commands::acknowledge(stores, policy, request).await,
        }
    }
}

/// The device that the path names, where an unknown one is 404.
fn require_device_id(request: &Request) -> Result<DeviceId, Problem> {
    request.device_id().ok_or_else(device_not_found)
}

/// 404: no such device.
fn device_not_found() -> Problem {
    Problem::not_found("Device")
}
