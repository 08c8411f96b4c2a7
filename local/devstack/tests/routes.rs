//! The routes of `cargo lambda watch` in the root Cargo.toml are those of API Gateway in
//! infra/openapi.yaml.

#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The function of each path.
type Routes = BTreeMap<String, String>;

#[test]
fn router_and_openapi_contain_the_same_routes() {
    let (contract, mut router) = (contract(), router());
    // API Gateway calls the route of all other paths `$default`.
    let default_function = contract["/$default"].clone();
    for path in ["/", "/{*path}"] {
        assert_eq!(router.remove(path), Some(default_function.clone()), "{path}");
    }
    let mut contract = contract;
    contract.remove("/$default");
    assert_eq!(router, contract);
}

/// The paths of the OpenAPI file in the syntax of the router. All methods of a path must belong to
/// one function: the router selects it by path, so that this function responds 405 to other
/// methods.
fn contract() -> Routes {
    let file = include_str!("../../../infra/openapi.yaml");
    let file: Value = yaml_serde::from_str(file).unwrap();
    let paths = file["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, operations)| {
            let functions: BTreeSet<_> = operations
                .as_object()
                .unwrap()
                .values()
                .filter_map(|operation| {
                    operation["x-amazon-apigateway-integration"]["$ref"].as_str()
                })
                .map(|reference| reference.rsplit('/').next().unwrap().to_owned())
                .collect();
            assert_eq!(functions.len(), 1, "{path} has functions {functions:?}");
            let path = path.replace("{filename+}", "{*filename}");
            (path, functions.into_iter().next().unwrap())
        })
        .collect()
}

fn router() -> Routes {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(checkout)
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let router = metadata["metadata"]["lambda"]["watch"]["router"].clone();
    serde_json::from_value(router).unwrap()
}
