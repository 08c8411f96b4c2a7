//! The route table of the REST API: the one list of methods, paths, functions and scopes.
//!
//! Authorization and the answers 404 and 405 follow from it. A test keeps infra/routes.txt equal to
//! it, another infra/openapi.yaml.

use ::http::Method;

use self::Function::{Alerts, Devices, Stats};

/// A Lambda function with REST routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Registry, presence, configuration, metrics, raw data, quarantine and commands.
    Devices,
    /// Alerts and alert rules.
    Alerts,
    /// Statistics and health; API Gateway sends it every request without a route.
    Stats,
}

impl Function {
    /// The name of its crate and binary.
    pub fn as_str(self) -> &'static str {
        match self {
            Devices => "devices",
            Alerts => "alerts",
            Stats => "stats",
        }
    }
}

/// A permission that a token contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Requests without effects.
    Read,
    /// All other requests.
    Write,
}

impl Scope {
    /// The scope as it is in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "meter/read",
            Self::Write => "meter/write",
        }
    }
}

/// A method and a path, the function that answers them, and the scope that they need.
#[derive(Debug, Clone)]
pub struct Route {
    /// The method. GET includes HEAD.
    pub method: Method,
    /// The path in axum's syntax: `{name}` is one segment, `{*name}` the rest of the path.
    pub path: &'static str,
    /// The function that answers.
    pub function: Function,
    /// The scope that a caller needs; none for a public route.
    pub scope: Option<Scope>,
}

const fn get(path: &'static str, function: Function) -> Route {
    Route { method: Method::GET, path, function, scope: Some(Scope::Read) }
}

const fn public(path: &'static str, function: Function) -> Route {
    Route { method: Method::GET, path, function, scope: None }
}

const fn write(method: Method, path: &'static str, function: Function) -> Route {
    Route { method, path, function, scope: Some(Scope::Write) }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    get("/api/devices", Devices),
    write(Method::POST, "/api/devices", Devices),
    get("/api/devices/{device_id}", Devices),
    write(Method::PUT, "/api/devices/{device_id}", Devices),
    write(Method::DELETE, "/api/devices/{device_id}", Devices),
    write(Method::POST, "/api/devices/{device_id}/heartbeat", Devices),
    get("/api/devices/{device_id}/status", Devices),
    write(Method::PUT, "/api/devices/{device_id}/status", Devices),
    get("/api/devices/{device_id}/config", Devices),
    write(Method::PUT, "/api/devices/{device_id}/config", Devices),
    get("/api/devices/{device_id}/metrics", Devices),
    get("/api/devices/{device_id}/metrics/latest", Devices),
    get("/api/devices/{device_id}/raw-data", Devices),
    get("/api/devices/{device_id}/raw-data/{*filename}", Devices),
    get("/api/quarantine", Devices),
    get("/api/quarantine/{id}", Devices),
    get("/api/devices/{device_id}/commands", Devices),
    write(Method::POST, "/api/devices/{device_id}/commands", Devices),
    write(Method::PUT, "/api/commands/{cmd_id}/ack", Devices),
    get("/api/devices/{device_id}/alerts", Alerts),
    write(Method::POST, "/api/devices/{device_id}/alerts", Alerts),
    get("/api/alerts", Alerts),
    write(Method::POST, "/api/alerts/{alert_id}/acknowledge", Alerts),
    get("/api/alert-rules", Alerts),
    write(Method::POST, "/api/alert-rules", Alerts),
    get("/api/alert-rules/{rule_id}", Alerts),
    write(Method::PUT, "/api/alert-rules/{rule_id}", Alerts),
    write(Method::DELETE, "/api/alert-rules/{rule_id}", Alerts),
    write(Method::POST, "/api/alert-rules/{rule_id}/test", Alerts),
    public("/health", Stats),
    public("/healthz", Stats),
    public("/readyz", Stats),
    get("/api/stats", Stats),
];

/// The routes of a function.
pub fn of(function: Function) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.function == function)
}

/// The route of a method and a path of the table.
pub(crate) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.iter().find(|route| route.path == path && route.method == *method)
}

/// The methods of a path of the table, sorted. HEAD is one of them only at `function` itself, since
/// API Gateway does not send HEAD to the function of a GET.
pub(crate) fn methods(function: Function, path: &str) -> Vec<Method> {
    let mut methods = vec![Method::OPTIONS];
    for route in ROUTES.iter().filter(|route| route.path == path) {
        methods.push(route.method.clone());
        if route.method == Method::GET && route.function == function {
            methods.push(Method::HEAD);
        }
    }
    methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    methods
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_of_a_path_has_one_route() {
        let distinct: BTreeSet<_> =
            ROUTES.iter().map(|route| (route.path, route.method.as_str())).collect();
        assert_eq!(distinct.len(), ROUTES.len());
    }

    #[test]
    fn only_health_checks_are_public() {
        let public = ROUTES.iter().filter(|route| route.scope.is_none());
        let paths: Vec<_> = public.map(|route| route.path).collect();
        assert_eq!(paths, ["/health", "/healthz", "/readyz"]);
    }
}
