use meter_domain::command::CommandStatus;
use meter_http::page::{self, MAX_ITEMS, Paging};
use meter_http::{Answer, Failure, Request};
use meter_store::{CommandStore, Page};

use super::view::View;

/// A device's commands, newest first.
pub(crate) async fn list<C: CommandStore>(
    commands: &C,
    request: &Request,
) -> Result<Answer, Failure> {
    const STATUSES: &str = "pending, accepted, rejected, error, unsupported, timeout";
    let status = request.query.word("status", CommandStatus::parse, STATUSES)?;
    let paging = Paging::of(request, MAX_ITEMS, &["status"])?;
    let Some(device_id) = &request.device_id() else {
        return Answer::ok(&[(); 0]);
    };
    page::list(&paging, |request| async move {
        let Page { items, next } = commands.list(device_id, status, &request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}
