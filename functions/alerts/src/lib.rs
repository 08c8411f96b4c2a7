//! REST: alerts and alert rules (docs/api.md). One file an action.

mod acknowledge;
mod create;
mod list;
mod rules;
mod view;

use meter_http::route::Route;
use meter_http::serve::Function;
use meter_http::{ApiError, Method, Request, Response};
use meter_store::{AlertStore, MetricStore, RuleStore};

/// What this function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// A device's alerts.
    ListDeviceAlerts,
    /// Raises an alert.
    Create,
    /// The fleet's alerts.
    ListAlerts,
    /// Says that somebody has seen it.
    Acknowledge,
    /// The alert rules.
    ListRules,
    /// Makes a rule.
    CreateRule,
    /// A rule.
    GetRule,
    /// Puts a rule in place of itself.
    ReplaceRule,
    /// Removes a rule.
    DeleteRule,
    /// Says when a rule would have raised alerts.
    TestRule,
}

/// The routes of this function.
pub const ROUTES: &[Route<Endpoint>] = &[
    Route::new(Method::GET, "/api/devices/{device_id}/alerts", Endpoint::ListDeviceAlerts),
    Route::new(Method::POST, "/api/devices/{device_id}/alerts", Endpoint::Create),
    Route::new(Method::GET, "/api/alerts", Endpoint::ListAlerts),
    Route::new(Method::POST, "/api/alerts/{alert_id}/acknowledge", Endpoint::Acknowledge),
    Route::new(Method::GET, "/api/alert-rules", Endpoint::ListRules),
    Route::new(Method::POST, "/api/alert-rules", Endpoint::CreateRule),
    Route::new(Method::GET, "/api/alert-rules/{rule_id}", Endpoint::GetRule),
    Route::new(Method::PUT, "/api/alert-rules/{rule_id}", Endpoint::ReplaceRule),
    Route::new(Method::DELETE, "/api/alert-rules/{rule_id}", Endpoint::DeleteRule),
    Route::new(Method::POST, "/api/alert-rules/{rule_id}/test", Endpoint::TestRule),
];

/// The function, over its stores.
#[derive(Debug, Clone)]
pub struct Alerts<A, R, T> {
    /// The alerts.
    pub alerts: A,
    /// The alert rules.
    pub rules: R,
    /// The measurements, which rules are tested on.
    pub metrics: T,
    /// For how many seconds after its end an alert is reopened, in such a test.
    pub hold_down_s: u32,
}

impl<A, R, T> Function for Alerts<A, R, T>
where
    A: AlertStore,
    R: RuleStore,
    T: MetricStore,
{
    type Endpoint = Endpoint;

    async fn handle(&self, endpoint: Endpoint, request: &Request) -> Result<Response, ApiError> {
        match endpoint {
            Endpoint::ListDeviceAlerts => list::list_for_device(&self.alerts, request).await,
            Endpoint::ListAlerts => list::list_all(&self.alerts, request).await,
            Endpoint::Create => create::create(&self.alerts, request).await,
            Endpoint::Acknowledge => acknowledge::acknowledge(&self.alerts, request).await,
            Endpoint::ListRules => rules::list(&self.rules, request).await,
            Endpoint::CreateRule => rules::create(&self.rules, request).await,
            Endpoint::GetRule => rules::get(&self.rules, request).await,
            Endpoint::ReplaceRule => rules::replace(&self.rules, request).await,
            Endpoint::DeleteRule => rules::delete(&self.rules, request).await,
            Endpoint::TestRule => {
                rules::test(&self.rules, &self.metrics, self.hold_down_s, request).await
            }
        }
    }
}
