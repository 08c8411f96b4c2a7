//! The alerts of a device.

use std::collections::BTreeSet;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::super::model::{Range, VerifyStage};
use super::super::scenario::{PresencePattern, Registration};
use super::device::DeviceVerifier;

/// Longer than a trial, and much shorter than the age of its messages.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

#[derive(Deserialize)]
struct Alert {
    alert_type: String,
    message: String,
    created_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

impl DeviceVerifier<'_> {
    /// Verifies one alert for each offline period and one for missing messages. Returns the number
    /// of alerts.
    pub(super) async fn verify_alerts(&mut self) -> Result<i64> {
        let mut alerts: Vec<Alert> = self.list("/alerts").await?;
        let count = alerts.len();
        alerts.reverse(); // oldest first
        let (gaps, offline): (Vec<_>, Vec<_>) =
            alerts.into_iter().partition(|alert| alert.alert_type == "sequence_gap");
        let expected = self.offline_alerts(offline) + self.gap_alerts(&gaps);
        self.report.totals.alerts.add(expected, count);
        Ok(i64::try_from(count)?)
    }

    fn offline_alerts(&mut self, mut alerts: Vec<Alert>) -> usize {
        let presence = &self.device.presence;
        let is_watched = self.profile.registration == Registration::BeforeMessages;
        let offline_periods = if is_watched { presence.offline_periods.as_slice() } else { &[] };
        let actual: Vec<_> =
            alerts.iter().map(|a| (&a.alert_type, a.created_at, a.resolved_at)).collect();
        let mut difference =
            format!("offline alerts: expected for periods {offline_periods:?}, actual {actual:?}");
        if presence.is_silent {
            difference += ", and one for silence";
        }
        let is_offline_alert = |alert: &Alert| alert.alert_type == "device_offline";
        let mut fits = alerts.iter().all(is_offline_alert);
        // Alerts of the watchdog have the current time, long after that of the messages.
        let is_recent =
            |alert: &mut Alert| alert.created_at.duration_until(Timestamp::now()) < RECENT;
        let silence: Vec<_> = alerts.extract_if(.., is_recent).collect();
        fits &= silence.len() == usize::from(presence.is_silent)
            && silence.iter().all(|alert| alert.resolved_at.is_none());
        fits &= match self.profile.presence {
            PresencePattern::Steady | PresencePattern::OrderedOutages => {
                alerts.len() == offline_periods.len()
                    && alerts.iter().zip(offline_periods).all(|(alert, (start, end))| {
                        start.contains(&alert.created_at)
                            && match alert.resolved_at {
                                None => end.is_empty(),
                                Some(at) => end.contains(&at),
                            }
                    })
            }
            // In random order, an offline period may remain undetected. But none has two alerts, no
            // alert lacks a period, and one is open exactly if the device is offline.
            PresencePattern::Flapping => {
                let open = alerts.iter().filter(|alert| alert.resolved_at.is_none()).count();
                let is_offline = presence.is_online == Some(false) && !presence.is_silent;
                let began: BTreeSet<_> = alerts.iter().map(|alert| alert.created_at).collect();
                began.len() == alerts.len()
                    && open == usize::from(is_watched && is_offline)
                    && began
                        .iter()
                        .all(|at| offline_periods.iter().any(|(start, _)| start.contains(at)))
            }
        };
        let expected = match self.profile.presence {
            PresencePattern::Flapping if fits => alerts.len(),
            _ => offline_periods.len(),
        };
        if !fits {
            self.add_difference(difference);
        }
        expected + usize::from(self.device.presence.is_silent)
    }

    /// Verifies the alert that names the missing sequence numbers. It is resolved if all of them
    /// arrived late.
    fn gap_alerts(&mut self, alerts: &[Alert]) -> usize {
        let is_watched = self.stage == VerifyStage::AfterWatchdog
            && self.profile.registration != Registration::Never;
        let none = (BTreeSet::new(), BTreeSet::new());
        let (first, last) = match &self.device.gaps {
            _ if !is_watched => &none,
            // The gaps are undetermined.
            None => return alerts.len(),
            Some(gaps) => gaps,
        };
        let fits = match alerts {
            [] => first.is_empty(),
            [alert] => {
                let is_named = ranges(&alert.message).is_some_and(|named| named == *last);
                !first.is_empty()
                    && alert.resolved_at.is_some() == last.is_empty()
                    && (is_named || last.is_empty())
            }
            _ => false,
        };
        let expected = usize::from(!first.is_empty());
        if !fits {
            let actual: Vec<_> = alerts.iter().map(|a| (a.resolved_at, &a.message)).collect();
            self.add_difference(format!(
                "gap alerts: expected for {first:?}, then {last:?}, actual {actual:?}"
            ));
        }
        expected
    }
}

/// The ranges in the message of a gap alert: `…: 3, 5 to 7`.
fn ranges(message: &str) -> Option<BTreeSet<Range>> {
    let named = message.rsplit_once(": ")?.1;
    let range = |text: &str| {
        let (first, last) = text.split_once(" to ").unwrap_or((text, text));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    named.split(", ").map(range).collect()
}
