//! The version of a rule as its `ETag`: a strong one, since `If-Match` compares strongly (RFC 9110,
//! 13.1.1).

use axum::Json;
use axum::response::IntoResponse;
use meter_domain::rule::Rule;
use meter_http::extract::header;
use meter_http::header::{ETAG, IF_MATCH};
use meter_http::{HeaderMap, Problem, StatusCode};

use super::view::View;

fn etag(rule: &Rule) -> String {
    format!("\"{}\"", rule.version)
}

/// A rule with its `ETag`.
pub(super) fn tagged(rule: Rule) -> impl IntoResponse {
    ([(ETAG, etag(&rule))], Json(View::new(rule)))
}

/// Checks that `If-Match` names the version of a rule, or is absent.
///
/// # Errors
/// 412 if it names another version.
pub(super) fn check_if_match(headers: &HeaderMap, rule: &Rule) -> Result<(), Problem> {
    let Some(expected) = header(headers, IF_MATCH) else { return Ok(()) };
    let tag = etag(rule);
    if expected.trim() == "*" || expected.split(',').any(|expected| expected.trim() == tag) {
        return Ok(());
    }
    let detail = "If-Match: the rule has changed; read it again";
    let field = Some("If-Match".to_owned());
    Err(Problem { field, ..Problem::new(StatusCode::PRECONDITION_FAILED, detail) })
}
