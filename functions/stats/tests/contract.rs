//! The contract is in three places, the code's routes, the OpenAPI file, and the routes of
//! `cargo lambda watch`, and this holds them together.

// clippy.toml allows these in tests, but does not see that their helpers are tests, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meter_core::http::route::{Access, Route};
use serde_json::Value;

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
        let is_open = route.access == Access::Open;
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

/// A file of the project.
fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

fn openapi() -> Value {
    yaml_serde::from_str(&file("infra/openapi.yaml")).unwrap()
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
            let security = row.get("security").unwrap_or(&file["security"]).as_array().unwrap();
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
    assert_eq!(row["security"], serde_json::json!([]));
}

/// The router has functions by path only; the functions say 405 themselves.
#[test]
fn cargo_lambda_watch_sends_each_path_to_the_function_that_answers_it() {
    let manifest = file("Cargo.toml");
    let (_, section) = manifest.split_once("[workspace.metadata.lambda.watch.router]\n").unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let entries = lines.filter_map(|line| {
        let (path, function) = line.strip_prefix('"')?.split_once("\" = \"")?;
        Some((path, function.strip_suffix('"')?))
    });
    let mut watched: BTreeMap<_, _> = entries.map(|(p, f)| (operation("", p), f)).collect();
    // Whatever else there is reaches the function that knows every route.
    for rest in ["/", "/{*path}"] {
        assert_eq!(watched.remove(&operation("", rest)), Some("stats"), "{rest}");
    }
    let routes = all_routes();
    let wanted = routes.iter().map(|(operation, (function, _))| {
        let (_, path) = operation.split_once(' ').unwrap();
        (format!(" {path}"), function.as_str())
    });
    assert_eq!(watched, wanted.collect());
}

fn is_method(key: &str) -> bool {
    ["get", "put", "post", "delete", "patch", "head", "options"].contains(&key)
}
