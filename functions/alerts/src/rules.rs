//! Alert rules (docs/alerts.md).

mod create;
mod etag;
mod fields;
mod replace;
mod test;
mod view;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::rule::Rule;
use meter_http::extract::Path;
use meter_http::page::{self, Pagination};
use meter_http::{ApiError, Problem};
use meter_store::{RuleStore, Stores};
use uuid::Uuid;

pub(crate) use self::create::create;
pub(crate) use self::replace::{delete, replace};
pub(crate) use self::test::test;
use self::view::View;
use crate::Alerts;

/// The rules, newest first.
pub(crate) async fn list<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    paging: Pagination<()>,
) -> Result<Response, ApiError> {
    let rules = stores.rules();
    page::list(&paging, View::new, async |page| rules.list(&page).await).await
}

/// A rule.
pub(crate) async fn get<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    Path(rule_id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let rule = find_rule(&stores, &rule_id).await?;
    Ok(etag::tagged(rule))
}

/// The rule of an id.
///
/// # Errors
/// 404 if there is no such rule.
async fn find_rule<S: Stores>(stores: &S, rule_id: &str) -> Result<Rule, ApiError> {
    let not_found = || Problem::not_found("Alert rule");
    let rule_id = Uuid::parse_str(rule_id).map_err(|_| not_found())?;
    Ok(stores.rules().get(rule_id).await?.ok_or_else(not_found)?)
}
