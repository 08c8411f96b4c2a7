//! REST: statistics and health (docs/api.md). API Gateway also sends this function every request
//! without a route, which it answers with 404 or 405.

mod fleet;
mod health;

use axum::Router;
use axum::routing::get;
use meter_http::App;
use meter_http::routes::Function;
use meter_http::settings::Api;
use meter_store::{Probe, Stores};

/// The state of the handlers.
#[derive(Debug, Clone)]
pub struct Stats<S, P> {
    /// The stores.
    pub stores: S,
    /// The probe of the stores.
    pub probe: P,
}

/// The function over its stores.
pub fn app<S: Stores, P: Probe + Clone + 'static>(stats: Stats<S, P>, api: Api) -> App {
    let routes = Router::new()
        .route("/health", get(health::health))
        .route("/healthz", get(health::liveness))
        .route("/readyz", get(health::readiness))
        .route("/api/stats", get(fleet::stats))
        .with_state(stats);
    App::new(Function::Stats, routes, api)
}
