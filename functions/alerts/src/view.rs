use meter_domain::alert::{Alert, AlertState, Severity};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// An alert in a response.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: Uuid,
    device_id: DeviceId,
    alert_type: String,
    severity: Severity,
    message: String,
    state: AlertState,
    acknowledged: bool,
    acknowledged_at: Option<Timestamp>,
    acknowledged_by: Option<String>,
    resolved_at: Option<Timestamp>,
    created_at: Timestamp,
    rule_id: Option<Uuid>,
}

impl View {
    pub(crate) fn new(alert: Alert) -> Self {
        Self {
            state: alert.state(),
            id: alert.alert_id,
            device_id: alert.device_id,
            alert_type: alert.alert_type,
            severity: alert.severity,
            message: alert.message,
            acknowledged: alert.acknowledged,
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by,
            resolved_at: alert.resolved_at,
            created_at: alert.created_at,
            rule_id: alert.rule_id,
        }
    }
}
