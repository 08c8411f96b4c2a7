use meter_domain::id::new_id;
use meter_domain::rule::{MAX_RULES, Rule};
use meter_http::{Answer, Failure, HeaderValue, Problem, Request, StatusCode, body, header};
use meter_store::{CreateRuleError, RuleStore};

use super::view::View;
use super::{fields, version};

/// Makes a rule.
pub(crate) async fn create<R: RuleStore>(rules: &R, request: &Request) -> Result<Answer, Failure> {
    let body = body::object(request)?;
    let said = fields::read(&body)?;
    let rule = Rule {
        rule_id: new_id(request.now),
        created_at: request.now,
        updated_at: request.now,
        version: 1,
        ..said
    };
    match rules.create(&rule).await {
        Ok(()) => {}
        Err(CreateRuleError::Full) => return Err(full().into()),
        Err(CreateRuleError::Store(error)) => return Err(error.into()),
    }
    let answer = version::tagged(Answer::created(&View::new(rule.clone()))?, &rule)?;
    let location = HeaderValue::try_from(format!("/api/alert-rules/{}", rule.rule_id));
    Ok(match location {
        Ok(location) => answer.with_header(header::LOCATION, location),
        Err(_) => answer,
    })
}

/// 409: there are too many.
fn full() -> Problem {
    let detail = format!("there are {MAX_RULES} alert rules, and there may be no more; remove one");
    Problem::new(StatusCode::CONFLICT, detail)
}
