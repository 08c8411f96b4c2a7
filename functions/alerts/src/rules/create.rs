use axum::extract::State;
use axum::response::IntoResponse;
use meter_domain::id::new_id;
use meter_domain::rule::{MAX_RULES, Rule};
use meter_http::extract::{ReceivedAt, ValidJson};
use meter_http::{ApiError, Problem, StatusCode, header};
use meter_store::{CreateRuleError, RuleStore, Stores};

use super::etag;
use super::fields::RuleFields;
use crate::Alerts;

/// Creates a rule.
pub(crate) async fn create<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    ReceivedAt(now): ReceivedAt,
    ValidJson(RuleFields(fields)): ValidJson<RuleFields>,
) -> Result<impl IntoResponse, ApiError> {
    let rule =
        Rule { rule_id: new_id(now), created_at: now, updated_at: now, version: 1, ..fields };
    match stores.rules().create(&rule).await {
        Ok(()) => {}
        Err(CreateRuleError::LimitReached) => return Err(rule_limit_reached().into()),
        Err(CreateRuleError::Store(error)) => return Err(error.into()),
    }
    let location = format!("/api/alert-rules/{}", rule.rule_id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], etag::tagged(rule)))
}

/// 409: the number of rules is at its limit.
fn rule_limit_reached() -> Problem {
    let detail = format!("there are {MAX_RULES} alert rules, the maximum; remove one first");
    Problem::new(StatusCode::CONFLICT, detail)
}
