use meter_domain::alert::{Alert, Severity};
use meter_domain::id::new_id;
use meter_http::body::{self, Fields};
use meter_http::{ApiError, Problem, Request, Response, idempotency};
use meter_store::{AlertStore, CreateOutcome};

use crate::view::View;

/// The longest `alert_type`, in characters.
const MAX_TYPE: usize = 255;

/// The longest `message`, in characters.
const MAX_MESSAGE: usize = 4_096;

/// Raises an alert.
pub(crate) async fn create<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Response, ApiError> {
    let none = || Problem::not_found("Device");
    let body = body::parse_optional_object(request)?;
    let fields = Fields::new(&body);
    let severity = fields.one_of("severity", Severity::parse, "info, warning, critical")?;
    let alert = Alert {
        alert_id: new_id(request.now),
        device_id: request.device_id().ok_or_else(none)?,
        alert_type: fields.string("alert_type", 1..=MAX_TYPE)?.unwrap_or("general").to_owned(),
        severity: severity.unwrap_or(Severity::Info),
        message: fields.string("message", 0..=MAX_MESSAGE)?.unwrap_or_default().to_owned(),
        acknowledged: false,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        created_at: request.now,
        rule_id: None,
    };
    let key = idempotency::key(request)?;
    match alerts.open(&alert, key.as_ref()).await? {
        CreateOutcome::Created => Response::created(&View::new(alert)),
        CreateOutcome::DeviceNotFound => Err(none().into()),
        CreateOutcome::AlreadyExists(first) if client_fields(&first) == client_fields(&alert) => {
            // As it was answered first: what has happened to it since is another answer.
            Response::created(&View::new(Alert {
                acknowledged: false,
                acknowledged_at: None,
                acknowledged_by: None,
                resolved_at: None,
                ..first
            }))
        }
        CreateOutcome::AlreadyExists(_) => Err(idempotency::key_reused().into()),
    }
}

/// What the client said of an alert.
fn client_fields(alert: &Alert) -> (&str, Severity, &str) {
    (&alert.alert_type, alert.severity, &alert.message)
}
