use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use meter_domain::rule::Rule;
use meter_http::extract::{Path, ReceivedAt, ValidJson};
use meter_http::{ApiError, HeaderMap};
use meter_service::optimistic_update;
use meter_store::retry;
use meter_store::{RuleStore, Stores, WriteError};
use serde_json::{Value, json};

use super::fields::RuleFields;
use super::{etag, find_rule};
use crate::Alerts;

/// Replaces a rule: a field that the body leaves out gets its default.
pub(crate) async fn replace<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    Path(rule_id): Path<String>,
    headers: HeaderMap,
    ReceivedAt(now): ReceivedAt,
    ValidJson(RuleFields(fields)): ValidJson<RuleFields>,
) -> Result<impl IntoResponse, ApiError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        let before = find_rule(&stores, &rule_id).await?;
        etag::check_if_match(&headers, &before)?;
        let rule = Rule {
            rule_id: before.rule_id,
            created_at: before.created_at,
            updated_at: now.max(before.updated_at),
            version: before.version + 1,
            ..fields.clone()
        };
        match stores.rules().replace(&rule).await {
            Ok(()) => return Ok(etag::tagged(rule)),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(optimistic_update::version_conflict_error().into())
}

/// Removes a rule. Its open alerts are resolved with the next message of their devices.
pub(crate) async fn delete<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    Path(rule_id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        let rule = find_rule(&stores, &rule_id).await?;
        etag::check_if_match(&headers, &rule)?;
        match stores.rules().remove(rule.rule_id, rule.version).await {
            Ok(()) => return Ok(Json(json!({"message": "Alert rule deleted successfully"}))),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error.into()),
        }
    }
    Err(optimistic_update::version_conflict_error().into())
}
