//! infra/routes.txt is the route table of the code for readers other than Rust: tests/templates/test_openapi.py
//! compares it with infra/openapi.yaml as API Gateway imports it.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot continue")]

use std::path::Path;

use meter_http::Method;
use meter_http::authorization::{READ_SCOPE, WRITE_SCOPE};
use meter_http::route::{Route, RouteAuth};

const HEADER: &str = "\
# The route table of the code: method, path, function and scope, `-` for a public route.
# `UPDATE_GOLDEN=1 cargo test -p stats --test routes_file` writes this file.
";

#[test]
fn routes_file_lists_the_routes_of_the_code() {
    let mut table = HEADER.to_owned();
    table.extend(lines("devices", devices::ROUTES));
    table.extend(lines("alerts", alerts::ROUTES));
    table.extend(lines("stats", stats::ROUTES));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/routes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), table);
}

fn lines<E>(function: &str, routes: &[Route<E>]) -> Vec<String> {
    let line = |route: &Route<E>| {
        let scope = match route.auth {
            RouteAuth::Public => "-",
            RouteAuth::Scoped if route.method == Method::GET => READ_SCOPE,
            RouteAuth::Scoped => WRITE_SCOPE,
        };
        format!("{} {} {function} {scope}\n", route.method, route.path)
    };
    routes.iter().map(line).collect()
}
