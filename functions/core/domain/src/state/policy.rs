//! Settings that apply to all devices.

/// Settings that apply to all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePolicy {
    /// Maximum number of metrics of a device that are not known metrics.
    pub max_metrics: usize,
    /// Minimum silence, in seconds, after which a device is offline.
    pub offline_after_s: u32,
    /// Seconds after the end of an offline alert in which a new one reopens it.
    pub hold_down_s: u32,
    /// Seconds for which sequence numbers may be missing before an alert opens.
    pub gap_grace_s: u32,
    /// Longest gap, in seconds, that an integral bridges; `None`: rollups are disabled.
    pub rollup_gap_s: Option<u32>,
    /// Seconds after the end of an alert of a rule in which a new cause reopens it.
    pub rule_hold_down_s: u32,
    /// Reorder window of alert rules, in seconds of device time: a sample that arrives at most this
    /// much later than a newer one is still judged in order. Samples are held back for as long.
    pub reorder_s: u32,
    /// Alerts for which notifications are sent.
    pub notify: NotificationPolicy,
}

/// Alerts for which notifications are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationPolicy {
    /// None; no topic is configured.
    Disabled,
    /// Alerts of rules with `notify`.
    RulesOnly,
    /// Alerts of rules with `notify` and alerts of the platform.
    All,
}

impl Default for DevicePolicy {
    fn default() -> Self {
        Self {
            max_metrics: 64,
            offline_after_s: 60,
            hold_down_s: 300,
            gap_grace_s: 60,
            rollup_gap_s: Some(300),
            rule_hold_down_s: 300,
            reorder_s: 0,
            notify: NotificationPolicy::Disabled,
        }
    }
}
