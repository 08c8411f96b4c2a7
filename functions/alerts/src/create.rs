use axum::Json;
use axum::extract::State;
use meter_domain::alert::{Alert, Severity};
use meter_domain::id::new_id;
use meter_domain::time::Timestamp;
use meter_http::extract::{DevicePath, OptionalJson, ReceivedAt};
use meter_http::fields::{Fields, FromFields};
use meter_http::idempotency::{self, Idempotency};
use meter_http::{ApiError, Problem, StatusCode};
use meter_store::{AlertStore, CreateOutcome, Stores};

use crate::Alerts;
use crate::view::View;

/// The longest `alert_type`, in characters.
const MAX_TYPE: usize = 255;

/// The longest `message`, in characters.
const MAX_MESSAGE: usize = 4_096;

/// The fields of an alert that a client sets.
#[derive(Debug, PartialEq)]
pub(crate) struct NewAlert {
    alert_type: String,
    severity: Severity,
    message: String,
}

impl FromFields for NewAlert {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        let severity = fields.one_of("severity", Severity::parse, "info, warning, critical")?;
        Ok(Self {
            alert_type: fields.string("alert_type", 1..=MAX_TYPE)?.unwrap_or("general").to_owned(),
            severity: severity.unwrap_or(Severity::Info),
            message: fields.string("message", 0..=MAX_MESSAGE)?.unwrap_or_default().to_owned(),
        })
    }
}

/// Opens an alert.
pub(crate) async fn create<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    DevicePath(device_id): DevicePath,
    Idempotency(key): Idempotency,
    ReceivedAt(now): ReceivedAt,
    OptionalJson(new): OptionalJson<NewAlert>,
) -> Result<(StatusCode, Json<View>), ApiError> {
    let NewAlert { alert_type, severity, message } = new;
    let alert = Alert {
        alert_id: new_id(now),
        device_id,
        alert_type,
        severity,
        message,
        acknowledged: false,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        created_at: now,
        rule_id: None,
    };
    let created = match stores.alerts().open(&alert, key.as_ref()).await? {
        CreateOutcome::Created => alert,
        CreateOutcome::DeviceNotFound => return Err(Problem::not_found("Device").into()),
        CreateOutcome::AlreadyExists(first) if client_fields(&first) == client_fields(&alert) => {
            // The response is the first one, without later changes of the alert.
            Alert {
                acknowledged: false,
                acknowledged_at: None,
                acknowledged_by: None,
                resolved_at: None,
                ..first
            }
        }
        CreateOutcome::AlreadyExists(_) => return Err(idempotency::key_reused().into()),
    };
    Ok((StatusCode::CREATED, Json(View::new(created))))
}

fn client_fields(alert: &Alert) -> (&str, Severity, &str) {
    (&alert.alert_type, alert.severity, &alert.message)
}
