use meter_core::alert::{Alert, Severity};
use meter_core::id::DeviceId;
use meter_core::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// An alert as it is answered.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: Uuid,
    device_id: DeviceId,
    alert_type: String,
    severity: Severity,
    message: String,
    acknowledged: bool,
    acknowledged_at: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl View {
    pub(crate) fn new(alert: Alert) -> Self {
        Self {
            id: alert.alert_id,
            device_id: alert.device_id,
            alert_type: alert.alert_type,
            severity: alert.severity,
            message: alert.message,
            acknowledged: alert.acknowledged,
            acknowledged_at: alert.acknowledged_at,
            resolved_at: alert.resolved_at,
            created_at: alert.created_at,
        }
    }
}
