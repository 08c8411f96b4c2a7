use meter_domain::id::new_id;
use meter_domain::rule::{MAX_RULES, Rule};
use meter_http::{ApiError, HeaderValue, Problem, Request, Response, StatusCode, body, header};
use meter_store::{CreateRuleError, RuleStore};

use super::view::View;
use super::{etag, fields};

/// Makes a rule.
pub(crate) async fn create<R: RuleStore>(
    rules: &R,
    request: &Request,
) -> Result<Response, ApiError> {
    let body = body::parse_object(request)?;
    let parsed = fields::parse(&body)?;
    let rule = Rule {
        rule_id: new_id(request.now),
        created_at: request.now,
        updated_at: request.now,
        version: 1,
        ..parsed
    };
    match rules.create(&rule).await {
        Ok(()) => {}
        Err(CreateRuleError::LimitReached) => return Err(rule_limit_reached().into()),
        Err(CreateRuleError::Store(error)) => return Err(error.into()),
    }
    let response = etag::with_etag(Response::created(&View::new(rule.clone()))?, &rule)?;
    let location = HeaderValue::try_from(format!("/api/alert-rules/{}", rule.rule_id));
    Ok(match location {
        Ok(location) => response.with_header(header::LOCATION, location),
        Err(_) => response,
    })
}

/// 409: there are too many.
fn rule_limit_reached() -> Problem {
    let detail = format!("there are {MAX_RULES} alert rules, and there may be no more; remove one");
    Problem::new(StatusCode::CONFLICT, detail)
}
