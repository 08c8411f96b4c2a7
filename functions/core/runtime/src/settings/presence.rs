//! Detection of offline devices and sequence gaps.

use meter_domain::state::DevicePolicy;

use super::{Environment, Settings};

/// Settings for the detection of offline devices and sequence gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// `OFFLINE_AFTER_S`: shortest silence after which a device is offline, in seconds, 1 to
    /// 86,400, default 60. A device with a longer report interval has three of its intervals
    /// (docs/adr/0010).
    pub offline_after_s: u32,
    /// `OFFLINE_HOLD_DOWN_S`: time after the return of a device during which going offline again
    /// reopens its alert instead of opening another, in seconds, 0 to 86,400, default 300.
    pub hold_down_s: u32,
    /// `GAP_GRACE_S`: time during which missing sequence numbers can still arrive before an alert
    /// opens, in seconds, 1 to 86,400, default 60.
    pub gap_grace_s: u32,
}

impl Settings for Presence {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            offline_after_s: environment.integer("OFFLINE_AFTER_S", 60, 1..=86_400),
            hold_down_s: environment.integer("OFFLINE_HOLD_DOWN_S", 300, 0..=86_400),
            gap_grace_s: environment.integer("GAP_GRACE_S", 60, 1..=86_400),
        }
    }
}

impl Presence {
    /// Returns a device policy with these settings and the defaults of all others.
    pub fn device_policy(&self) -> DevicePolicy {
        DevicePolicy {
            offline_after_s: self.offline_after_s,
            hold_down_s: self.hold_down_s,
            gap_grace_s: self.gap_grace_s,
            ..DevicePolicy::default()
        }
    }
}
