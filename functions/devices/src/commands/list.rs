use meter_domain::command::CommandStatus;
use meter_http::page::{self, MAX_ITEMS, Pagination};
use meter_http::{ApiError, Request, Response};
use meter_store::{CommandStore, Page};

use super::view::View;

/// A device's commands, newest first.
pub(crate) async fn list<C: CommandStore>(
    commands: &C,
    request: &Request,
) -> Result<Response, ApiError> {
    const STATUSES: &str = "pending, accepted, rejected, error, unsupported, timeout";
    let status = request.query.one_of("status", CommandStatus::parse, STATUSES)?;
    let paging = Pagination::from_request(request, MAX_ITEMS, &["status"])?;
    let Some(device_id) = &request.device_id() else {
        return Response::ok(&[(); 0]);
    };
    page::list(&paging, |request| async move {
        let Page { items, next } = commands.list(device_id, status, &request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}
