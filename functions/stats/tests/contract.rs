//! The contract is in the code's routes and in the OpenAPI file, and this holds them together. (The routes
//! of `cargo lambda watch` are held to the OpenAPI file by a test of local/devstack.)

// clippy.toml allows these in tests, but does not see that their helpers are tests, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meter_domain::alert::{AlertState, Severity};
use meter_domain::command::{AckResult, CommandKind, CommandStatus, OtaState};
use meter_domain::device::DeviceStatus;
use meter_domain::message::Category;
use meter_domain::metric::Quality;
use meter_domain::rule::Operator;
use meter_domain::state::Connection;
use meter_http::route::{Route, RouteAuth};
use serde::Serialize;
use serde_json::{Value, json};

/// A method, and a path whose variable parts have no names: `GET /api/devices/{}`.
type Operation = String;

/// Which function answers an operation, and whether everybody may ask.
type Contract = BTreeMap<Operation, (String, bool)>;

fn operation(method: &str, path: &str) -> Operation {
    let segment = |s: &str| {
        // `{*rest}` in the code and `{rest+}` at the gateway both take the rest of the path.
        match s.starts_with('{') {
            true if s.contains(['*', '+']) => "{+}".to_owned(),
            true => "{}".to_owned(),
            false => s.to_owned(),
        }
    };
    let path: Vec<_> = path.split('/').map(segment).collect();
    format!("{} {}", method.to_uppercase(), path.join("/"))
}

fn routes<E>(function: &str, routes: &[Route<E>]) -> Vec<(Operation, (String, bool))> {
    let routes = routes.iter().map(|route| {
        let is_open = route.auth == RouteAuth::Public;
        (operation(route.method.as_str(), route.path), (function.to_owned(), is_open))
    });
    routes.collect()
}

fn all_routes() -> Vec<(Operation, (String, bool))> {
    let mut all = routes("devices", devices::ROUTES);
    all.extend(routes("alerts", alerts::ROUTES));
    all.extend(routes("stats", stats::ROUTES));
    all
}

fn openapi() -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("infra/openapi.yaml")).unwrap();
    yaml_serde::from_str(&text).unwrap()
}

#[test]
fn no_two_functions_claim_the_same_route() {
    let all = all_routes();
    let distinct: BTreeSet<_> = all.iter().map(|(operation, _)| operation).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn the_openapi_file_has_the_routes_of_the_code_with_their_functions_and_scopes() {
    let file = openapi();
    let mut contract = Contract::new();
    for (path, item) in file["paths"].as_object().unwrap() {
        if path == "/$default" {
            continue;
        }
        for (method, row) in item.as_object().unwrap().iter().filter(|(key, _)| is_method(key)) {
            let integration = row["x-amazon-apigateway-integration"]["$ref"].as_str().unwrap();
            let function = integration.rsplit_once('/').unwrap().1.to_owned();
            // API Gateway ignores `security` at the root of the file.
            let security = row["security"].as_array().unwrap();
            let scope = security.first().map(|s| s["jwt"][0].as_str().unwrap());
            let wanted = if method == "get" { "meter/read" } else { "meter/write" };
            assert!(scope.is_none_or(|scope| scope == wanted), "{method} {path}: {scope:?}");
            contract.insert(operation(method, path), (function, scope.is_none()));
        }
    }
    assert_eq!(contract, all_routes().into_iter().collect());
}

#[test]
fn whatever_has_no_route_reaches_the_function_that_knows_all_of_them() {
    let file = openapi();
    let row = &file["paths"]["/$default"]["x-amazon-apigateway-any-method"];
    let integration = row["x-amazon-apigateway-integration"]["$ref"].as_str().unwrap();
    assert!(integration.ends_with("/stats"));
    // A preflight carries no token.
    assert_eq!(row["security"], json!([]));
}

/// The words that a type is written as.
fn words<T: Serialize>(all: &[T]) -> Value {
    all.iter().map(|word| serde_json::to_value(word).unwrap()).collect()
}

#[test]
fn the_words_of_the_openapi_file_are_those_of_the_code() {
    let file = openapi();
    let results =
        [AckResult::Accepted, AckResult::Rejected, AckResult::Error, AckResult::Unsupported];
    let mut statuses = vec![CommandStatus::Pending];
    statuses.extend(results.map(CommandStatus::from));
    statuses.push(CommandStatus::Timeout);
    let ota = [
        OtaState::Downloading,
        OtaState::Verifying,
        OtaState::Applying,
        OtaState::Success,
        OtaState::Failed,
        OtaState::Completed,
    ];
    for (schema, wanted) in [
        ("DeviceStatus", words(&DeviceStatus::ALL)),
        ("ConnectionStatus", words(&Connection::ALL)),
        ("Severity", words(&[Severity::Info, Severity::Warning, Severity::Critical])),
        ("AlertState", words(&[AlertState::Open, AlertState::Acknowledged, AlertState::Resolved])),
        ("Operator", words(&Operator::ALL)),
        ("CommandKind", words(&CommandKind::ALL)),
        ("CommandStatus", words(&statuses)),
        ("CommandAck/properties/result", words(&results)),
        ("Ota/properties/state", words(&ota)),
        ("Point/properties/quality", words(&[Quality::OutOfRange])),
        ("RawMessage/properties/category", words(&Category::ALL)),
    ] {
        let found = file.pointer(&format!("/components/schemas/{schema}/enum"));
        assert_eq!(found, Some(&wanted), "{schema}");
    }
}

fn is_method(key: &str) -> bool {
    ["get", "put", "post", "delete", "patch", "head", "options"].contains(&key)
}
