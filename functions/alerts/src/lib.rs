//! REST: alerts and alert rules (docs/api.md). One file an action.

mod acknowledge;
mod create;
mod list;
mod rules;
mod view;

use axum::Router;
use axum::routing::{get, post};
use meter_http::App;
use meter_http::routes::Function;
use meter_http::settings::Api;
use meter_store::Stores;

/// The state of the handlers.
#[derive(Debug, Clone)]
pub struct Alerts<S> {
    /// The stores.
    pub stores: S,
    /// Seconds after its end for which a backtest reopens an alert.
    pub hold_down_s: u32,
}

/// The function over its stores.
pub fn app<S: Stores>(alerts: Alerts<S>, api: Api) -> App {
    let routes = Router::new()
        .route("/api/devices/{device_id}/alerts", get(list::list_for_device).post(create::create))
        .route("/api/alerts", get(list::list_all))
        .route("/api/alerts/{alert_id}/acknowledge", post(acknowledge::acknowledge))
        .route("/api/alert-rules", get(rules::list).post(rules::create))
        .route(
            "/api/alert-rules/{rule_id}",
            get(rules::get).put(rules::replace).delete(rules::delete),
        )
        .route("/api/alert-rules/{rule_id}/test", post(rules::test))
        .with_state(alerts);
    App::new(Function::Alerts, routes, api)
}
