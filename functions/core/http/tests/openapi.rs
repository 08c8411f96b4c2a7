//! infra/openapi.yaml has the routes and the words of the code. (A test of local/devstack compares
//! the routes of `cargo lambda watch` with it.)

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot continue")]

use std::collections::BTreeMap;
use std::path::Path;

use meter_domain::alert::{AlertState, Severity};
use meter_domain::command::{AckResult, CommandKind, CommandStatus, OtaState};
use meter_domain::device::DeviceStatus;
use meter_domain::message::Category;
use meter_domain::metric::Quality;
use meter_domain::rule::Operator;
use meter_domain::state::Connection;
use meter_http::routes::ROUTES;
use serde::Serialize;
use serde_json::{Value, json};

/// A method, and a path whose variable parts have no names: `GET /api/devices/{}`.
type Operation = String;

/// The function of each operation, and whether it is public.
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

fn routes() -> Contract {
    let routes = ROUTES.iter().map(|route| {
        let operation = operation(route.method.as_str(), route.path);
        (operation, (route.function.as_str().to_owned(), route.scope.is_none()))
    });
    routes.collect()
}

fn openapi() -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let text = std::fs::read_to_string(root.join("infra/openapi.yaml")).unwrap();
    yaml_serde::from_str(&text).unwrap()
}

#[test]
fn openapi_file_has_the_routes_functions_and_scopes_of_the_code() {
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
            let expected = if method == "get" { "meter/read" } else { "meter/write" };
            assert!(scope.is_none_or(|scope| scope == expected), "{method} {path}: {scope:?}");
            contract.insert(operation(method, path), (function, scope.is_none()));
        }
    }
    assert_eq!(contract, routes());
}

#[test]
fn request_without_a_route_is_sent_to_stats() {
    let file = openapi();
    let row = &file["paths"]["/$default"]["x-amazon-apigateway-any-method"];
    let integration = row["x-amazon-apigateway-integration"]["$ref"].as_str().unwrap();
    assert!(integration.ends_with("/stats"));
    // A preflight carries no token.
    assert_eq!(row["security"], json!([]));
}

/// The serialized values of a type.
fn words<T: Serialize>(all: &[T]) -> Value {
    all.iter().map(|word| serde_json::to_value(word).unwrap()).collect()
}

#[test]
fn openapi_file_has_the_words_of_the_code() {
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
    for (schema, expected) in [
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
        assert_eq!(found, Some(&expected), "{schema}");
    }
}

fn is_method(key: &str) -> bool {
    ["get", "put", "post", "delete", "patch", "head", "options"].contains(&key)
}
