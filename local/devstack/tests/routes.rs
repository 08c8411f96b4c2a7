//! The local router has the routes of the contract: infra/openapi.yaml gives API Gateway its routes, the
//! root Cargo.toml gives `cargo lambda watch` the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Path and function.
type Routes = BTreeMap<String, String>;

#[test]
fn each_path_of_the_contract_is_routed_to_its_function() {
    let (contract, mut router) = (contract(), router());
    // What has no route: API Gateway calls it `$default`.
    let anything_else = contract["/$default"].clone();
    for path in ["/", "/{*path}"] {
        assert_eq!(router.remove(path), Some(anything_else.clone()), "{path}");
    }
    let mut contract = contract;
    contract.remove("/$default");
    assert_eq!(router, contract);
}

/// The paths of the OpenAPI file, written as the router writes them. All methods of a path must be one function's:
/// the router could not send a method that nobody lists anywhere.
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
