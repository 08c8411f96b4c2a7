//! Alert rules: a resource of their own (docs/alerts.md).

mod create;
mod etag;
mod fields;
mod replace;
mod test;
mod view;

use meter_domain::rule::Rule;
use meter_http::page::{self, MAX_ITEMS, Pagination};
use meter_http::{ApiError, Problem, Request, Response};
use meter_store::{Page, RuleStore};
use uuid::Uuid;

pub(crate) use self::create::create;
pub(crate) use self::replace::{delete, replace};
pub(crate) use self::test::test;
use self::view::View;

/// The rules, newest first.
pub(crate) async fn list<R: RuleStore>(rules: &R, request: &Request) -> Result<Response, ApiError> {
    let paging = Pagination::from_request(request, MAX_ITEMS, &[])?;
    page::list(&paging, |request| async move {
        let Page { items, next } = rules.list(&request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}

/// A rule.
pub(crate) async fn get<R: RuleStore>(rules: &R, request: &Request) -> Result<Response, ApiError> {
    let rule = find_rule(rules, request).await?;
    etag::with_etag(Response::ok(&View::new(rule.clone()))?, &rule)
}

/// The rule that the path names, where an unknown one is 404.
async fn find_rule<R: RuleStore>(rules: &R, request: &Request) -> Result<Rule, ApiError> {
    let none = || Problem::not_found("Alert rule");
    let rule_id = Uuid::parse_str(request.params.get("rule_id")).map_err(|_| none())?;
    Ok(rules.get(rule_id).await?.ok_or_else(none)?)
}
