use meter_domain::alert::{Alert, Severity};
use meter_domain::id::new_id;
use meter_http::body::{self, Fields};
use meter_http::{Answer, Failure, Problem, Request, idempotency};
use meter_store::{AlertStore, Made};

use crate::view::View;

/// The longest `alert_type`, in characters.
const MAX_TYPE: usize = 255;

/// The longest `message`, in characters.
const MAX_MESSAGE: usize = 4_096;

/// Raises an alert.
pub(crate) async fn create<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Answer, Failure> {
    let none = || Problem::not_found("Device");
    let body = body::object_or_nothing(request)?;
    let fields = Fields::of(&body);
    let severity = fields.word("severity", Severity::parse, "info, warning, critical")?;
    let alert = Alert {
        alert_id: new_id(request.now),
        device_id: request.device_id().ok_or_else(none)?,
        alert_type: fields.text("alert_type", 1..=MAX_TYPE)?.unwrap_or("general").to_owned(),
        severity: severity.unwrap_or(Severity::Info),
        message: fields.text("message", 0..=MAX_MESSAGE)?.unwrap_or_default().to_owned(),
        acknowledged: false,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        created_at: request.now,
        rule_id: None,
    };
    let key = idempotency::key(request)?;
    match alerts.open(&alert, key.as_ref()).await? {
        Made::New => Answer::created(&View::new(alert)),
        Made::NoDevice => Err(none().into()),
        Made::Already(first) if said(&first) == said(&alert) => {
            // As it was answered first: what has happened to it since is another answer.
            Answer::created(&View::new(Alert {
                acknowledged: false,
                acknowledged_at: None,
                acknowledged_by: None,
                resolved_at: None,
                ..first
            }))
        }
        Made::Already(_) => Err(idempotency::used_for_another().into()),
    }
}

/// What the client said of an alert.
fn said(alert: &Alert) -> (&str, Severity, &str) {
    (&alert.alert_type, alert.severity, &alert.message)
}
