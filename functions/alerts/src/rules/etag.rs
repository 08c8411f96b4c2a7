//! A rule's version as its `ETag`, a strong one, since `If-Match` compares strongly (RFC 9110, 13.1.1).

use meter_domain::rule::Rule;
use meter_http::{ApiError, HeaderValue, Problem, Request, Response, StatusCode, header};

fn etag(rule: &Rule) -> String {
    format!("\"{}\"", rule.version)
}

/// The answer with the version of the rule that it shows.
pub(super) fn with_etag(response: Response, rule: &Rule) -> Result<Response, ApiError> {
    let tag = HeaderValue::try_from(etag(rule));
    let tag = tag.map_err(|error| ApiError::Internal(Box::new(error)))?;
    Ok(response.with_header(header::ETAG, tag))
}

/// Whether the client means this version: it says so in `If-Match`, or says nothing.
pub(super) fn check_if_match(request: &Request, rule: &Rule) -> Result<(), Problem> {
    let Some(wanted) = request.headers.get("if-match") else { return Ok(()) };
    let tag = etag(rule);
    if wanted.trim() == "*" || wanted.split(',').any(|wanted| wanted.trim() == tag) {
        return Ok(());
    }
    Err(precondition_failed())
}

/// 412: it was changed since the client read it.
pub(super) fn precondition_failed() -> Problem {
    let detail = "If-Match: the rule was changed meanwhile; read it again";
    let field = Some("If-Match".to_owned());
    Problem { field, ..Problem::new(StatusCode::PRECONDITION_FAILED, detail) }
}
