//! The presence of a device: heartbeats over HTTP, and the connection status that an operator sets.

use axum::Json;
use axum::extract::State;
use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use meter_http::conditional::Tagged;
use meter_http::extract::{DevicePath, ReceivedAt, ValidJson};
use meter_http::fields::{Fields, FromFields};
use meter_http::{ApiError, Problem};
use meter_service::{effects, optimistic_update};
use meter_store::{DeviceStore, StateStore, Stores};
use serde_json::{Value, json};

use crate::registry::View;
use crate::{Devices, device_not_found};

/// The longest `fw_version`, in characters.
const MAX_FW_VERSION: usize = 64;

/// The status that an operator sets.
#[derive(Debug)]
pub(crate) struct NewStatus {
    connection: Connection,
    fw_version: Option<String>,
}

impl FromFields for NewStatus {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        const NAME: &str = "connection_status";
        let connection = fields.one_of(NAME, Connection::parse, "online, offline, unknown")?;
        let fw_version = fields.string("fw_version", 1..=MAX_FW_VERSION);
        Ok(Self {
            connection: connection.ok_or_else(|| fields.invalid(NAME, "is missing"))?,
            fw_version: fw_version?.map(str::to_owned),
        })
    }
}

/// Records a heartbeat.
pub(crate) async fn heartbeat<S: Stores>(
    State(Devices { stores, policy, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
    ReceivedAt(now): ReceivedAt,
) -> Result<Json<Value>, ApiError> {
    require_registered(stores.states(), &id).await?;
    let record = |state: &mut DeviceState| state.record_activity(now, &policy);
    let state = optimistic_update::update_state(stores.states(), &id, record).await?;
    effects::dispatch_due_effects(&stores, state, now, &policy).await?;
    Ok(Json(json!({"message": "Heartbeat received"})))
}

/// The connection status of a device.
pub(crate) async fn get<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
) -> Result<Json<Value>, ApiError> {
    let state = require_registered(stores.states(), &id).await?;
    Ok(Json(json!({
        "device_id": id,
        "connection_status": state.presence.connection,
        "last_seen": state.presence.last_seen,
        "fw_version": state.fw_version,
    })))
}

/// Sets the connection status and the firmware version of a device.
pub(crate) async fn put<S: Stores>(
    State(Devices { stores, policy, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
    ReceivedAt(now): ReceivedAt,
    ValidJson(NewStatus { connection, fw_version }): ValidJson<NewStatus>,
) -> Result<Tagged<View>, ApiError> {
    let device = stores.devices().get(&id).await?.ok_or_else(device_not_found)?;
    let state = optimistic_update::update_state(stores.states(), &id, |state| {
        state.override_connection(connection, fw_version.clone(), now, &policy);
    })
    .await?;
    let view = View::new(device, Some(&state));
    effects::dispatch_due_effects(&stores, state, now, &policy).await?;
    Ok(Tagged(view))
}

/// The state of a registered device. The state contains the registration, so that one read
/// suffices.
async fn require_registered<S: StateStore>(
    states: &S,
    id: &DeviceId,
) -> Result<DeviceState, ApiError> {
    let state = optimistic_update::read_state(states, id).await?;
    match state.registered {
        true => Ok(state),
        false => Err(device_not_found().into()),
    }
}
