use std::cmp::Reverse;
use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use meter_http::fields::{Fields, FromFields};
use meter_http::page::{self, Filter, Pagination};
use meter_http::{ApiError, Problem};
use meter_store::{DeviceFilter, DeviceStore, Page, PageRequest, StateStore, StoreError, Stores};

use super::View;
use crate::Devices;

/// The most states that one BatchGetItem of DynamoDB reads.
const STATES_PER_READ: usize = 100;

/// The filters of the list of devices.
#[derive(Debug)]
pub(crate) struct ListQuery {
    filter: DeviceFilter,
    connection: Option<Connection>,
}

impl FromFields for ListQuery {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        let text = |name| fields.string(name, 0..=usize::MAX).map(|text| text.map(str::to_owned));
        let connections = "online, offline, unknown";
        Ok(Self {
            filter: DeviceFilter {
                status: fields.one_of("status", DeviceStatus::parse, "active, inactive")?,
                device_type: text("type")?,
                id_prefix: text("q")?,
            },
            connection: fields.one_of("connection_status", Connection::parse, connections)?,
        })
    }
}

impl Filter for ListQuery {
    const NAMES: &'static [&'static str] = &["status", "type", "connection_status", "q"];
}

/// The fleet, newest first.
pub(crate) async fn list<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    paging: Pagination<ListQuery>,
) -> Result<Response, ApiError> {
    if !can_match(&paging.filter.filter) {
        return Ok(Json([(); 0]).into_response());
    }
    let query = &paging.filter;
    page::list(&paging, |view| view, async |page| read(&stores, query, &page).await).await
}

/// Whether a device can match. DynamoDB refuses a comparison with a text that is longer than a key.
fn can_match(filter: &DeviceFilter) -> bool {
    let id_prefix = filter.id_prefix.as_deref();
    id_prefix.is_none_or(|prefix| DeviceId::parse(prefix).is_ok())
        && filter.device_type.as_ref().is_none_or(|t| t.chars().count() <= 255)
}

async fn read<S: Stores>(
    stores: &S,
    ListQuery { filter, connection }: &ListQuery,
    page: &PageRequest,
) -> Result<Page<View>, StoreError> {
    let Page { mut items, next } = stores.devices().list(filter, page).await?;
    // With a prefix, pages are in the order of ids; the items of a page are newest first
    // nevertheless.
    items.sort_by_key(|device| Reverse(device.id));
    let known = read_states(stores.states(), &items).await?;
    let views = items.into_iter().map(|device| {
        let state = known.get(&device.device_id);
        View::new(device, state)
    });
    Ok(Page {
        items: views
            .filter(|view| connection.is_none_or(|status| view.connection_status == status))
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
