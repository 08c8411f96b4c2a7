//! Evaluation of alert rules, and notifications.

use meter_domain::state::{DevicePolicy, NotificationPolicy};

use super::{Environment, Settings};

/// Settings for alert rules and notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerting {
    /// `RULE_CACHE_TTL_S`: time for which a process uses the alert rules that it has read, in
    /// seconds, 1 to 3,600, default 60. A change of a rule takes effect within this time.
    pub rules_max_age_s: u32,
    /// `RULE_REORDER_WINDOW_S`: delay of a sample, on the clock of the device, within which rules
    /// still evaluate it in order, in seconds, 0 to 600, default 0. Alerts open later by this time.
    /// The samples of one batch are always put in order.
    pub rules_reorder_s: u32,
    /// `ALERT_HOLD_DOWN_S`: time after the end of an alert during which its rule reopens it without
    /// a notification, in seconds, 0 to 86,400, default 300. The resolve notification waits for the
    /// end of this time.
    pub hold_down_s: u32,
    /// `ALERT_TOPIC_ARN`: ARN of the SNS topic for notifications of alerts. Not set (default): no
    /// notifications are sent.
    pub topic_arn: Option<String>,
    /// `NOTIFY_DEVICE_ALERTS`: `true` (default) sends notifications of all alerts; `false` leaves
    /// out the alerts of the platform itself (`device_offline`, `sequence_gap`).
    pub notify_device_alerts: bool,
}

impl Settings for Alerting {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            rules_max_age_s: environment.integer("RULE_CACHE_TTL_S", 60, 1..=3_600),
            rules_reorder_s: environment.integer("RULE_REORDER_WINDOW_S", 0, 0..=600),
            hold_down_s: environment.integer("ALERT_HOLD_DOWN_S", 300, 0..=86_400),
            topic_arn: read_topic_arn(environment, "ALERT_TOPIC_ARN"),
            notify_device_alerts: environment.flag("NOTIFY_DEVICE_ALERTS", true),
        }
    }
}

impl Alerting {
    /// Returns a device policy with these settings and all others of `policy`.
    pub fn extend_policy(&self, policy: DevicePolicy) -> DevicePolicy {
        DevicePolicy {
            rule_hold_down_s: self.hold_down_s,
            reorder_s: self.rules_reorder_s,
            notify: match (&self.topic_arn, self.notify_device_alerts) {
                (None, _) => NotificationPolicy::Disabled,
                (Some(_), false) => NotificationPolicy::RulesOnly,
                (Some(_), true) => NotificationPolicy::All,
            },
            ..policy
        }
    }
}

fn read_topic_arn(environment: &mut Environment<'_>, name: &str) -> Option<String> {
    let arn = environment.get(name)?;
    if !(arn.starts_with("arn:") && arn.split(':').nth(2) == Some("sns")) {
        environment.report(format!("{name} must be the ARN of an SNS topic, not {arn:?}"));
    }
    Some(arn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read;

    #[test]
    fn notifications_require_a_topic() {
        let notify = |variables: &[(&str, &str)]| {
            let alerting: Alerting = read(variables).unwrap();
            alerting.extend_policy(DevicePolicy::default()).notify
        };
        let topic = ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:1:alerts");
        assert_eq!(notify(&[]), NotificationPolicy::Disabled);
        assert_eq!(notify(&[topic]), NotificationPolicy::All);
        assert_eq!(
            notify(&[topic, ("NOTIFY_DEVICE_ALERTS", "false")]),
            NotificationPolicy::RulesOnly
        );
        let error = read::<Alerting>(&[("ALERT_TOPIC_ARN", "alerts")]).unwrap_err().to_string();
        assert!(error.contains("ALERT_TOPIC_ARN must be the ARN of an SNS topic"), "{error}");
    }
}
