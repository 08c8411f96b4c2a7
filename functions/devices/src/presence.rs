//! Whether a device is there: its heartbeat over HTTP, and an operator's word.

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState, Rules};
use meter_http::body::{self, Fields};
use meter_http::{Answer, Failure, Request};
use meter_service::lock;
use meter_service::outbox::Outbox;
use meter_store::{AlertStore, CommandPublisher, CommandStore, DeviceStore, Notifier, StateStore};
use serde_json::json;

use crate::registry::View;
use crate::{known, no_device};

/// The longest `fw_version`, in characters.
const MAX_FW_VERSION: usize = 64;

/// A sign of life over HTTP.
pub(crate) async fn heartbeat<S, A, C, D, P>(
    outbox: &Outbox<S, A, C, D, P>,
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher + Notifier,
{
    let id = known(request)?;
    registered(&outbox.states, &id).await?;
    let hear = |state: &mut DeviceState| state.heard(request.now, rules);
    let state = lock::change_state(&outbox.states, &id, hear).await?;
    outbox.settle(state, request.now, rules).await?;
    Answer::ok(&json!({"message": "Heartbeat received"}))
}

/// Whether a device is connected.
pub(crate) async fn get<S: StateStore>(states: &S, request: &Request) -> Result<Answer, Failure> {
    let id = known(request)?;
    let state = registered(states, &id).await?;
    Answer::ok(&json!({
        "device_id": id,
        "connection_status": state.presence.connection,
        "last_seen": state.presence.last_seen,
        "fw_version": state.fw_version,
    }))
}

/// An operator's word on whether a device is connected, and on its firmware.
pub(crate) async fn put<S, A, C, D, P>(
    outbox: &Outbox<S, A, C, D, P>,
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher + Notifier,
{
    const NAME: &str = "connection_status";
    let id = known(request)?;
    let body = body::object(request)?;
    let fields = Fields::of(&body);
    let connection = fields
        .word(NAME, Connection::parse, "online, offline, unknown")?
        .ok_or_else(|| fields.wrong(NAME, "is missing"))?;
    let fw_version = fields.text("fw_version", 1..=MAX_FW_VERSION)?;
    let device = outbox.registry.get(&id).await?.ok_or_else(no_device)?;
    let state = lock::change_state(&outbox.states, &id, |state| {
        state.override_connection(connection, fw_version.map(str::to_owned), request.now, rules);
    })
    .await?;
    let answer = Answer::ok(&View::new(device, Some(&state)))?.with_etag();
    outbox.settle(state, request.now, rules).await?;
    Ok(answer)
}

/// The state of a registered device, which says itself whether it is registered: one read.
async fn registered<S: StateStore>(states: &S, id: &DeviceId) -> Result<DeviceState, Failure> {
    let state = lock::read_state(states, id).await?;
    match state.registered {
        true => Ok(state),
        false => Err(no_device().into()),
    }
}
