//! REST: alerts (api.md). One file an action.

mod acknowledge;
mod create;
mod list;
mod view;

use meter_core::http::route::Route;
use meter_core::http::serve::Function;
use meter_core::http::{Answer, Failure, Method, Request};
use meter_core::store::AlertStore;

/// What this function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// A device's alerts.
    OfDevice,
    /// Raises an alert.
    Create,
    /// The fleet's alerts.
    OfFleet,
    /// Says that somebody has seen it.
    Acknowledge,
}

/// The routes of this function.
pub const ROUTES: &[Route<Endpoint>] = &[
    Route::new(Method::GET, "/api/devices/{device_id}/alerts", Endpoint::OfDevice),
    Route::new(Method::POST, "/api/devices/{device_id}/alerts", Endpoint::Create),
    Route::new(Method::GET, "/api/alerts", Endpoint::OfFleet),
    Route::new(Method::POST, "/api/alerts/{alert_id}/acknowledge", Endpoint::Acknowledge),
];

/// The function, over its store.
#[derive(Debug, Clone)]
pub struct Alerts<A> {
    /// The alerts.
    pub alerts: A,
}

impl<A: AlertStore> Function for Alerts<A> {
    type Endpoint = Endpoint;

    async fn handle(&self, endpoint: Endpoint, request: &Request) -> Result<Answer, Failure> {
        match endpoint {
            Endpoint::OfDevice => list::of_device(&self.alerts, request).await,
            Endpoint::OfFleet => list::of_fleet(&self.alerts, request).await,
            Endpoint::Create => create::create(&self.alerts, request).await,
            Endpoint::Acknowledge => acknowledge::acknowledge(&self.alerts, request).await,
        }
    }
}
