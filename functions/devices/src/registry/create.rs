use meter_domain::state::Rules;
use meter_http::body;
use meter_http::{Answer, Failure, HeaderValue, Problem, Request, StatusCode, header};
use meter_service::lock;
use meter_service::outbox::Outbox;
use meter_service::sweep::{Progress, sweep};
use meter_store::retry;
use meter_store::{
    AlertStore, Archive, ArchiveKeys, CommandPublisher, CommandStore, CreateError, DeviceStore,
    MessageStore, RollupStore, StateStore,
};

use super::View;
use super::fields;

/// Registers a device.
pub(crate) async fn create<S, A, C, D, P, M, O>(
    stores: &Outbox<S, A, C, D, P>,
    (messages, archive): (&M, &O),
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
    M: MessageStore + RollupStore,
    O: Archive + ArchiveKeys,
{
    let device = fields::new_device(&body::object(request)?, request.now)?;
    let id = &device.device_id;
    for attempt in 0..retry::ATTEMPTS {
        // A device that sent before it was registered has a state already.
        let mut state = lock::read_state(&stores.states, id).await?;
        // A purge leaves a tombstone only where there was a device.
        let is_purged = state.sweep.is_some_and(|sweep| sweep.purge);
        state.register(request.now, rules);
        state.device_type.clone_from(&device.device_type);
        let created = match is_purged {
            true => Err(CreateError::BeingDeleted),
            false => stores.registry.create(&device, &state).await,
        };
        match created {
            Ok(()) => {}
            Err(CreateError::Exists) => return Err(exists().into()),
            Err(CreateError::BeingDeleted) => match sweep(stores, messages, archive, id).await? {
                Progress::Done => continue,
                Progress::Unfinished => return Err(being_deleted().into()),
            },
            Err(CreateError::Conflict) => {
                retry::pause(attempt).await;
                continue;
            }
            Err(CreateError::Store(error)) => return Err(error.into()),
        }
        let location = HeaderValue::try_from(format!("/api/devices/{id}"));
        let answer = Answer::created(&View::new(device, Some(&state)))?;
        return Ok(match location {
            Ok(location) => answer.with_header(header::LOCATION, location),
            Err(_) => answer,
        });
    }
    Err(lock::contended().into())
}

fn exists() -> Problem {
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
