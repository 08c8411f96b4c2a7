//! REST: statistics and health, and whatever has no route: API Gateway sends that here, so this function
//! knows every route and can say 405 with `Allow` rather than 404.

mod fleet;
mod health;

use meter_http::route::{Route, RouteError, Router};
use meter_http::serve::Function;
use meter_http::{ApiError, Method, Request, Response};
use meter_store::{AlertStore, DeviceStore, Probe};

/// What this function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// That the service answers.
    Health,
    /// That the process runs.
    Liveness,
    /// That the stores answer.
    Readiness,
    /// The fleet in numbers.
    Stats,
}

/// The routes of this function.
pub const ROUTES: &[Route<Endpoint>] = &[
    Route::public(Method::GET, "/health", Endpoint::Health),
    Route::public(Method::GET, "/healthz", Endpoint::Liveness),
    Route::public(Method::GET, "/readyz", Endpoint::Readiness),
    Route::new(Method::GET, "/api/stats", Endpoint::Stats),
];

/// A router of this function's routes that knows those of the others.
pub fn router() -> Result<Router<Endpoint>, RouteError> {
    let devices = devices::ROUTES.iter().map(|r| (&r.method, r.path));
    let alerts = alerts::ROUTES.iter().map(|r| (&r.method, r.path));
    devices.chain(alerts).try_fold(Router::new(ROUTES)?, |router, (method, path)| {
        router.with_external_route(method.clone(), path)
    })
}

/// The function, over its stores.
#[derive(Debug, Clone)]
pub struct Stats<D, A, P> {
    /// The registry, which counts devices.
    pub registry: D,
    /// The alerts, which are counted, too.
    pub alerts: A,
    /// Every store there is.
    pub stores: P,
}

impl<D, A, P> Function for Stats<D, A, P>
where
    D: DeviceStore,
    A: AlertStore,
    P: Probe,
{
    type Endpoint = Endpoint;

    async fn handle(&self, endpoint: Endpoint, _: &Request) -> Result<Response, ApiError> {
        match endpoint {
            Endpoint::Health => health::health(),
            Endpoint::Liveness => health::liveness(),
            Endpoint::Readiness => health::readiness(&self.stores).await,
            Endpoint::Stats => fleet::stats(&self.registry, &self.alerts).await,
        }
    }
}
