use meter_domain::state::DevicePolicy;
use meter_http::body;
use meter_http::{ApiError, HeaderValue, Problem, Request, Response, StatusCode, header};
use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_service::optimistic_update;
use meter_service::outbox::Outbox;
use meter_store::retry;
use meter_store::{
    AlertStore, Archive, ArchiveListing, CommandPublisher, CommandStore, CreateDeviceError,
    DeviceStore, MessageStore, RollupStore, StateStore,
};

use super::View;
use super::fields;

/// Registers a device.
pub(crate) async fn create<S, A, C, D, P, M, O>(
    stores: &Outbox<S, A, C, D, P>,
    (messages, archive): (&M, &O),
    policy: &DevicePolicy,
    request: &Request,
) -> Result<Response, ApiError>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
    M: MessageStore + RollupStore,
    O: Archive + ArchiveListing,
{
    let device = fields::new_device(&body::parse_object(request)?, request.now)?;
    let id = &device.device_id;
    for attempt in 0..retry::MAX_ATTEMPTS {
        // A device that sent before it was registered has a state already.
        let mut state = optimistic_update::read_state(&stores.states, id).await?;
        // A purge leaves a tombstone only where there was a device.
        let is_purged = state.cleanup.is_some_and(|sweep| sweep.purge.is_requested());
        state.register(request.now, policy);
        state.device_type.clone_from(&device.device_type);
        let created = match is_purged {
            true => Err(CreateDeviceError::BeingDeleted),
            false => stores.registry.create(&device, &state).await,
        };
        match created {
            Ok(()) => {}
            Err(CreateDeviceError::AlreadyExists) => return Err(already_exists().into()),
            Err(CreateDeviceError::BeingDeleted) => {
                match clean_up_device(stores, messages, archive, id).await? {
                    CleanupStatus::Done => continue,
                    CleanupStatus::Unfinished => return Err(being_deleted().into()),
                }
            }
            Err(CreateDeviceError::Conflict) => {
                retry::wait(attempt).await;
                continue;
            }
            Err(CreateDeviceError::Store(error)) => return Err(error.into()),
        }
        let location = HeaderValue::try_from(format!("/api/devices/{id}"));
        let response = Response::created(&View::new(device, Some(&state)))?;
        return Ok(match location {
            Ok(location) => response.with_header(header::LOCATION, location),
            Err(_) => response,
        });
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
