//! infra/routes.txt is the route table of the code for readers other than Rust:
//! tests/templates/test_openapi.py compares it with infra/openapi.yaml as API Gateway imports it.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot continue")]

use std::path::Path;

use meter_http::routes::{ROUTES, Scope};

const HEADER: &str = "\
# The route table of the code: method, path, function and scope, `-` for a public route.
# `UPDATE_GOLDEN=1 cargo test -p meter-http --test routes_file` writes this file.
";

#[test]
fn routes_file_lists_the_routes_of_the_code() {
    let lines = ROUTES.iter().map(|route| {
        let scope = route.scope.map_or("-", Scope::as_str);
        format!("{} {} {} {scope}\n", route.method, route.path, route.function.as_str())
    });
    let table = HEADER.to_owned() + &lines.collect::<String>();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../infra/routes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), table);
}
