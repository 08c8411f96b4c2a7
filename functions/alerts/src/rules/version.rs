//! A rule's version as its `ETag`, a strong one, since `If-Match` compares strongly (RFC 9110, 13.1.1).

use meter_domain::rule::Rule;
use meter_http::{Answer, Failure, HeaderValue, Problem, Request, StatusCode, header};

fn tag(rule: &Rule) -> String {
    format!("\"{}\"", rule.version)
}

/// The answer with the version of the rule that it shows.
pub(super) fn tagged(answer: Answer, rule: &Rule) -> Result<Answer, Failure> {
    let tag = HeaderValue::try_from(tag(rule));
    let tag = tag.map_err(|error| Failure::Internal(Box::new(error)))?;
    Ok(answer.with_header(header::ETAG, tag))
}

/// Whether the client means this version: it says so in `If-Match`, or says nothing.
pub(super) fn check(request: &Request, rule: &Rule) -> Result<(), Problem> {
    let Some(wanted) = request.headers.get("if-match") else { return Ok(()) };
    let tag = tag(rule);
    if wanted.trim() == "*" || wanted.split(',').any(|wanted| wanted.trim() == tag) {
        return Ok(());
    }
    Err(changed())
}

/// 412: it was changed since the client read it.
pub(super) fn changed() -> Problem {
    let detail = "If-Match: the rule was changed meanwhile; read it again";
    let field = Some("If-Match".to_owned());
    Problem { field, ..Problem::new(StatusCode::PRECONDITION_FAILED, detail) }
}
