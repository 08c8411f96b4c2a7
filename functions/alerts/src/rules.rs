//! Alert rules: a resource of their own (docs/alerts.md).

mod create;
mod fields;
mod replace;
mod test;
mod version;
mod view;

use meter_domain::rule::Rule;
use meter_http::page::{self, MAX_ITEMS, Paging};
use meter_http::{Answer, Failure, Problem, Request};
use meter_store::{Page, RuleStore};
use uuid::Uuid;

pub(crate) use self::create::create;
pub(crate) use self::replace::{delete, replace};
pub(crate) use self::test::test;
use self::view::View;

/// The rules, newest first.
pub(crate) async fn list<R: RuleStore>(rules: &R, request: &Request) -> Result<Answer, Failure> {
    let paging = Paging::of(request, MAX_ITEMS, &[])?;
    page::list(&paging, |request| async move {
        let Page { items, next } = rules.list(&request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}

/// A rule.
pub(crate) async fn get<R: RuleStore>(rules: &R, request: &Request) -> Result<Answer, Failure> {
    let rule = known(rules, request).await?;
    version::tagged(Answer::ok(&View::new(rule.clone()))?, &rule)
}

/// The rule that the path names, where an unknown one is 404.
async fn known<R: RuleStore>(rules: &R, request: &Request) -> Result<Rule, Failure> {
    let none = || Problem::not_found("Alert rule");
    let rule_id = Uuid::parse_str(request.params.get("rule_id")).map_err(|_| none())?;
    Ok(rules.get(rule_id).await?.ok_or_else(none)?)
}
