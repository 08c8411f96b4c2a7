use meter_domain::rule::Rule;
use meter_http::{Answer, Failure, Request, body};
use meter_service::lock;
use meter_store::retry;
use meter_store::{RuleStore, WriteError};
use serde_json::json;

use super::view::View;
use super::{fields, known, version};

/// Puts a rule in place of itself: what the body leaves out has its default, whatever it was before.
pub(crate) async fn replace<R: RuleStore>(rules: &R, request: &Request) -> Result<Answer, Failure> {
    let body = body::object(request)?;
    let said = fields::read(&body)?;
    for attempt in 0..retry::ATTEMPTS {
        let before = known(rules, request).await?;
        version::check(request, &before)?;
        let rule = Rule {
            rule_id: before.rule_id,
            created_at: before.created_at,
            updated_at: request.now.max(before.updated_at),
            version: before.version + 1,
            ..said.clone()
        };
        match rules.replace(&rule).await {
            Ok(()) => return version::tagged(Answer::ok(&View::new(rule.clone()))?, &rule),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(lock::contended().into())
}

/// Removes a rule; its open alerts end with the next message of their devices.
pub(crate) async fn delete<R: RuleStore>(rules: &R, request: &Request) -> Result<Answer, Failure> {
    for attempt in 0..retry::ATTEMPTS {
        let rule = known(rules, request).await?;
        version::check(request, &rule)?;
        match rules.remove(rule.rule_id, rule.version).await {
            Ok(()) => return Answer::ok(&json!({"message": "Alert rule deleted successfully"})),
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(lock::contended().into())
}
