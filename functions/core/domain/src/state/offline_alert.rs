//! Effects of a change of the connection status: the offline alert, its notifications, and commands
//! that wait for the device.
//!
//! Invariant: a registered device has at most one open offline alert, and it has none while it is
//! online. Within the hold-down the last alert is reopened.

use super::presence::ConnectionChange;
use super::{DevicePolicy, DeviceState, Effect, OfflineAlert};
use crate::alert::{Alert, DEVICE_OFFLINE};
use crate::time::Timestamp;

impl DeviceState {
    /// Applies the consequences of a change of the connection status.
    pub(super) fn apply_connection_change(
        &mut self,
        change: ConnectionChange,
        policy: &DevicePolicy,
    ) {
        match change {
            ConnectionChange::WentOffline(at) => self.went_offline(at, policy),
            ConnectionChange::CameOnline(at) => {
                if let Some(alert_id) = self.presence.resolve_alert(at) {
                    self.enqueue_alert_revision(alert_id, Some(at), None);
                    let message = format!("{} is online since {at}", self.device_id);
                    let end = (at, policy.hold_down_s);
                    self.notify_resolved((alert_id, DEVICE_OFFLINE), end, message, policy);
                }
                self.enqueue_effect(Effect::RepublishCommands { at });
            }
        }
    }

    fn went_offline(&mut self, at: Timestamp, policy: &DevicePolicy) {
        if !self.registered {
            return;
        }
        let was_resolved = self.presence.alert.is_some_and(|alert| alert.resolved_at.is_some());
        let alert = Alert::device_offline(&self.device_id, at);
        if let Some(alert_id) = self.presence.reopen_alert(at, policy.hold_down_s) {
            self.enqueue_alert_revision(alert_id, None, None);
            if was_resolved && !self.outbox.cancel_resolve_notification(alert_id) {
                self.notify_device_alert(&Alert { alert_id, ..alert }, at, policy);
            }
            return;
        }
        self.presence.alert = Some(OfflineAlert { alert_id: alert.alert_id, resolved_at: None });
        self.notify_device_alert(&alert, at, policy);
        self.enqueue_effect(Effect::OpenAlert { alert });
    }
}
