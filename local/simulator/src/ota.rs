//! A simulated firmware upgrade: no image is downloaded, but every state is reported.

use std::time::Duration;

use semver::Version;
use uuid::Uuid;

/// A report of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtaProgress {
    /// `ota_state` of the message.
    pub state: &'static str,
    /// The progress within the state, 0 to 100.
    pub progress_pct: Option<u8>,
    /// The reason of a failure.
    pub detail: Option<String>,
    /// The outcome so far.
    pub outcome: UpgradeOutcome,
}

/// The outcome of an upgrade after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// More reports follow.
    InProgress,
    /// The device restarts with the new version.
    Installed,
    /// The device keeps the old one.
    Failed,
}

const STATES: [(&str, Option<u8>); 8] = [
    ("downloading", Some(0)),
    ("downloading", Some(25)),
    ("downloading", Some(50)),
    ("downloading", Some(75)),
    ("downloading", Some(100)),
    ("verifying", None),
    ("applying", None),
    ("success", None),
];

/// The interval of reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// An upgrade in progress.
#[derive(Debug, Clone)]
pub struct Upgrade {
    cmd_id: Uuid,
    target: Version,
    step: usize,
    next_at: Duration,
}

impl Upgrade {
    /// An upgrade that begins now (monotonic).
    pub fn start(cmd_id: Uuid, target: Version, now: Duration) -> Self {
        Self { cmd_id, target, step: 0, next_at: now }
    }

    /// The command that started it.
    pub fn cmd_id(&self) -> Uuid {
        self.cmd_id
    }

    /// The version to install.
    pub fn target(&self) -> &Version {
        &self.target
    }

    /// The time of the next report (monotonic).
    pub fn next_at(&self) -> Duration {
        self.next_at
    }

    /// The report, if one is due now.
    pub fn advance(&mut self, now: Duration) -> Option<OtaProgress> {
        if now < self.next_at {
            return None;
        }
        let (state, progress_pct) = *STATES.get(self.step)?;
        self.step += 1;
        self.next_at = now + REPORT_INTERVAL;
        // A version `…-bad` simulates an image with a wrong digest.
        if state == "applying" && self.target.to_string().ends_with("-bad") {
            return Some(OtaProgress {
                state: "failed",
                progress_pct: None,
                detail: Some("verifying: the SHA-256 of the image is not fw_sha256".to_owned()),
                outcome: UpgradeOutcome::Failed,
            });
        }
        let outcome = if self.step == STATES.len() {
            UpgradeOutcome::Installed
        } else {
            UpgradeOutcome::InProgress
        };
        Some(OtaProgress { state, progress_pct, detail: None, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_upgrade(target: &str) -> Vec<OtaProgress> {
        let mut upgrade = Upgrade::start(Uuid::nil(), target.parse().unwrap(), Duration::ZERO);
        let mut reports = Vec::new();
        loop {
            let report = upgrade.advance(upgrade.next_at()).unwrap();
            let outcome = report.outcome;
            reports.push(report);
            if outcome != UpgradeOutcome::InProgress {
                return reports;
            }
        }
    }

    #[test]
    fn upgrade_reports_every_state_in_order() {
        let reports = run_upgrade("2.0.0");
        let mut states: Vec<_> = reports.iter().map(|r| r.state).collect();
        states.dedup();
        assert_eq!(states, ["downloading", "verifying", "applying", "success"]);
        let progress: Vec<_> = reports.iter().filter_map(|r| r.progress_pct).collect();
        assert_eq!(progress, [0, 25, 50, 75, 100]);
        assert_eq!(reports.last().unwrap().outcome, UpgradeOutcome::Installed);
    }

    #[test]
    fn image_with_wrong_digest_fails_after_verifying() {
        let reports = run_upgrade("2.0.0-bad");
        let [.., verifying, failed] = reports.as_slice() else { panic!("too few: {reports:?}") };
        assert_eq!(verifying.state, "verifying");
        assert_eq!(failed.state, "failed");
        assert_eq!(failed.outcome, UpgradeOutcome::Failed);
        assert!(failed.detail.as_deref().unwrap().contains("SHA-256"));
    }

    #[test]
    fn no_report_before_it_is_due() {
        let mut upgrade = Upgrade::start(Uuid::nil(), Version::new(2, 0, 0), Duration::ZERO);
        assert!(upgrade.advance(Duration::ZERO).is_some());
        assert_eq!(upgrade.advance(Duration::ZERO), None);
    }
}
