//! Telemetry of devices: points, messages, and quarantined messages.

pub(crate) mod metrics;
pub(crate) mod quarantine;
pub(crate) mod raw_data;
