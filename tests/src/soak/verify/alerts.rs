//! A device's alerts.

use std::collections::BTreeSet;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::super::model::{Range, VerifyStage};
use super::super::scenario::{PresencePattern, Registration};
use super::device::DeviceVerifier;

/// Longer than a run takes, and much shorter than the time since what was said in it.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

#[derive(Deserialize)]
struct Alert {
    alert_type: String,
    message: String,
    created_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

impl DeviceVerifier<'_> {
    /// Each absence is one alert, and so are the numbers that are missing. How many there are.
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
        let told: Vec<_> =
            alerts.iter().map(|a| (&a.alert_type, a.created_at, a.resolved_at)).collect();
        let mut told = format!("alerts {told:?} for absences {offline_periods:?}");
        if presence.is_silent {
            told += " and silence";
        }
        let is_its_own = |alert: &Alert| alert.alert_type == "device_offline";
        let mut fits = alerts.iter().all(is_its_own);
        // What the watchdog has raised is of now, long after all that was said.
        let by_now = |alert: &mut Alert| alert.created_at.duration_until(Timestamp::now()) < RECENT;
        let silence: Vec<_> = alerts.extract_if(.., by_now).collect();
        fits &= silence.len() == usize::from(presence.is_silent)
            && silence.iter().all(|alert| alert.resolved_at.is_none());
        fits &= match self.profile.presence {
            PresencePattern::Steady | PresencePattern::OrderedOutages => {
                alerts.len() == offline_periods.len()
                    && alerts.iter().zip(offline_periods).all(|(alert, (gone, back))| {
                        gone.contains(&alert.created_at)
                            && match alert.resolved_at {
                                None => back.is_empty(),
                                Some(at) => back.contains(&at),
                            }
                    })
            }
            // Of comings and goings that nobody put in order, not each needs to be noticed. But none twice,
            // and none that was not; and one is open if it is gone, else none.
            PresencePattern::Flapping => {
                let open = alerts.iter().filter(|alert| alert.resolved_at.is_none()).count();
                let is_gone = presence.is_online == Some(false) && !presence.is_silent;
                let began: BTreeSet<_> = alerts.iter().map(|alert| alert.created_at).collect();
                began.len() == alerts.len()
                    && open == usize::from(is_watched && is_gone)
                    && began
                        .iter()
                        .all(|at| offline_periods.iter().any(|(gone, _)| gone.contains(at)))
            }
        };
        let expected = match self.profile.presence {
            PresencePattern::Flapping if fits => alerts.len(),
            _ => offline_periods.len(),
        };
        if !fits {
            self.add_difference(told);
        }
        expected + usize::from(self.device.presence.is_silent)
    }

    /// One alert that names what is missing; it is resolved if that has come after all.
    fn gap_alerts(&mut self, alerts: &[Alert]) -> usize {
        let is_watched = self.stage == VerifyStage::AfterWatchdog
            && self.profile.registration != Registration::Never;
        let none = (BTreeSet::new(), BTreeSet::new());
        let (first, last) = match &self.device.gaps {
            _ if !is_watched => &none,
            // There is no saying which numbers belong together.
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
            let told: Vec<_> = alerts.iter().map(|a| (a.resolved_at, &a.message)).collect();
            self.add_difference(format!("gap alerts {told:?}, missing {first:?}, then {last:?}"));
        }
        expected
    }
}

/// The ranges that an alert for missing numbers names: `…: 3, 5 to 7`.
fn ranges(message: &str) -> Option<BTreeSet<Range>> {
    let named = message.rsplit_once(": ")?.1;
    let range = |text: &str| {
        let (first, last) = text.split_once(" to ").unwrap_or((text, text));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    named.split(", ").map(range).collect()
}
