use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use meter_http::extract::{ReceivedAt, ValidJson};
use meter_http::{ApiError, HeaderValue, Problem, StatusCode, header};
use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_service::optimistic_update;
use meter_store::retry;
use meter_store::{CreateDeviceError, DeviceStore, Stores};

use super::View;
use super::fields::NewDevice;
use crate::Devices;

/// Registers a device.
pub(crate) async fn create<S: Stores>(
    State(Devices { stores, policy, .. }): State<Devices<S>>,
    ReceivedAt(now): ReceivedAt,
    ValidJson(NewDevice(device)): ValidJson<NewDevice>,
) -> Result<impl IntoResponse, ApiError> {
    let id = &device.device_id;
    for attempt in 0..retry::MAX_ATTEMPTS {
        // A device that sent messages before its registration has a state.
        let mut state = optimistic_update::read_state(stores.states(), id).await?;
        // The purge of an unregistered device leaves no tombstone.
        let is_purged = state.cleanup.is_some_and(|cleanup| cleanup.purge.is_requested());
        state.register(now, &policy);
        state.device_type.clone_from(&device.device_type);
        let created = match is_purged {
            true => Err(CreateDeviceError::BeingDeleted),
            false => stores.devices().create(&device, &state).await,
        };
        match created {
            Ok(()) => {
                let location = format!("/api/devices/{id}");
                let view = View::new(device, Some(&state));
                return Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)));
            }
            Err(CreateDeviceError::AlreadyExists) => return Err(already_exists().into()),
            Err(CreateDeviceError::BeingDeleted) => match clean_up_device(&stores, id).await? {
                CleanupStatus::Done => {}
                CleanupStatus::Unfinished => return Err(being_deleted().into()),
            },
            Err(CreateDeviceError::Conflict) => retry::wait(attempt).await,
            Err(CreateDeviceError::Store(error)) => return Err(error.into()),
        }
    }
    Err(optimistic_update::version_conflict_error().into())
}

fn already_exists() -> Problem {
    Problem {
        field: Some("device_id".to_owned()),
        ..Problem::new(StatusCode::CONFLICT, "device_id: a device with this id exists")
    }
}

fn being_deleted() -> Problem {
    let detail = "device_id: a device with this id is being deleted; try again later";
    Problem { field: Some("device_id".to_owned()), ..Problem::new(StatusCode::CONFLICT, detail) }
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("60"))
}
