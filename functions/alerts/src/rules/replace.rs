use meter_domain::rule::Rule;
use meter_http::{ApiError, Request, Response, body};
use meter_service::optimistic_update;
use meter_store::retry;
use meter_store::{RuleStore, WriteError};
use serde_json::json;

use super::view::View;
use super::{etag, fields, find_rule};

/// Puts a rule in place of itself: what the body leaves out has its default, whatever it was before.
pub(crate) async fn replace<R: RuleStore>(
    rules: &R,
    request: &Request,
) -> Result<Response, ApiError> {
    let body = body::parse_object(request)?;
    let parsed = fields::parse(&body)?;
    for attempt in 0..retry::MAX_ATTEMPTS {
        let before = find_rule(rules, request).await?;
        etag::check_if_match(request, &before)?;
        let rule = Rule {
            rule_id: before.rule_id,
            created_at: before.created_at,
            updated_at: request.now.max(before.updated_at),
            version: before.version + 1,
            ..parsed.clone()
        };
        match rules.replace(&rule).await {
            Ok(()) => return etag::with_etag(Response::ok(&View::new(rule.clone()))?, &rule),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(optimistic_update::version_conflict_error().into())
}

/// Removes a rule; its open alerts end with the next message of their devices.
pub(crate) async fn delete<R: RuleStore>(
    rules: &R,
    request: &Request,
) -> Result<Response, ApiError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        let rule = find_rule(rules, request).await?;
        etag::check_if_match(request, &rule)?;
        match rules.remove(rule.rule_id, rule.version).await {
            Ok(()) => return Response::ok(&json!({"message": "Alert rule deleted successfully"})),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(optimistic_update::version_conflict_error().into())
}
