use std::cmp::Reverse;
use std::collections::HashMap;

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_http::page::{self, MAX_ITEMS, Pagination};
use meter_http::{ApiError, Request, Response};
use meter_store::{DeviceFilter, DeviceStore, Page, PageRequest, StateStore, StoreError};

use super::View;

/// What one BatchGetItem of DynamoDB takes.
const STATES_PER_READ: usize = 100;

/// The fleet, newest first.
pub(crate) async fn list<D, S>(
    registry: &D,
    states: &S,
    request: &Request,
) -> Result<Response, ApiError>
where
    D: DeviceStore,
    S: StateStore,
{
    let query = &request.query;
    let filter = DeviceFilter {
        status: query.one_of("status", DeviceStatus::parse, "active, inactive")?,
        device_type: query.get("type").map(str::to_owned),
        id_prefix: query.get("q").map(str::to_owned),
    };
    let connection =
        query.one_of("connection_status", Connection::parse, "online, offline, unknown")?;
    let paging = Pagination::from_request(
        request,
        MAX_ITEMS,
        &["status", "type", "connection_status", "q"],
    )?;
    if !can_match(&filter) {
        return Response::ok(&[(); 0]);
    }
    let filter = &filter;
    page::list(&paging, |request| async move {
        read(registry, states, filter, connection, &request).await
    })
    .await
}

/// Whether there can be such a device. A key is never compared with a text that is longer than keys can
/// be, which DynamoDB refuses.
fn can_match(filter: &DeviceFilter) -> bool {
    let id_prefix = filter.id_prefix.as_deref();
    id_prefix.is_none_or(|prefix| DeviceId::parse(prefix).is_ok())
        && filter.device_type.as_ref().is_none_or(|t| t.chars().count() <= 255)
}

async fn read<D, S>(
    registry: &D,
    states: &S,
    filter: &DeviceFilter,
    connection: Option<Connection>,
    request: &PageRequest,
) -> Result<Page<View>, ApiError>
where
    D: DeviceStore,
    S: StateStore,
{
    let Page { mut items, next } = registry.list(filter, request).await?;
    // Pages under a prefix are cut in the order of ids; inside one the newest comes first all the same.
    items.sort_by_key(|device| Reverse(device.id));
    let known = read_states(states, &items).await?;
    let views = items.into_iter().map(|device| {
        let state = known.get(&device.device_id);
        View::new(device, state)
    });
    Ok(Page {
        items: views
            .filter(|view| connection.is_none_or(|wanted| view.connection_status == wanted))
            .collect(),
        next,
    })
}

async fn read_states<S: StateStore>(
    states: &S,
    devices: &[Device],
) -> Result<HashMap<DeviceId, DeviceState>, StoreError> {
    let ids: Vec<_> = devices.iter().map(|d| d.device_id.clone()).collect();
    let batches = ids.chunks(STATES_PER_READ).map(|ids| states.get_many(ids));
    let batches = futures::future::try_join_all(batches).await?;
    Ok(batches.into_iter().flatten().collect())
}
