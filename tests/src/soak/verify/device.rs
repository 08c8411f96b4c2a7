//! The registry entry of a device.

use anyhow::Result;
use jiff::Timestamp;
use serde::Deserialize;

use super::super::model::{ExpectedDevice, VerifyStage};
use super::super::rest::RestApi;
use super::super::scenario::{DeviceProfile, Registration};
use super::{VerifyReport, parse};

/// Compares one device.
pub(super) struct DeviceVerifier<'a> {
    pub(super) profile: &'a DeviceProfile,
    pub(super) device: &'a ExpectedDevice,
    pub(super) stage: VerifyStage,
    pub(super) api: &'a mut RestApi,
    pub(super) report: &'a mut VerifyReport,
}

impl DeviceVerifier<'_> {
    pub(super) fn path(&self, suffix: &str) -> String {
        format!("/api/devices/{}{suffix}", self.profile.id)
    }

    pub(super) fn add_difference(&mut self, what: impl std::fmt::Display) {
        self.report.add_difference(&self.profile.id, what);
    }

    pub(super) async fn list<T: for<'de> Deserialize<'de>>(
        &mut self,
        suffix: &str,
    ) -> Result<Vec<T>> {
        let path = self.path(suffix);
        let items = self.api.list(&path).await?;
        items.into_iter().map(|item| parse(item, &path)).collect()
    }

    /// Verifies connection, firmware and last activity in the registry.
    pub(super) async fn verify_registry(&mut self) -> Result<()> {
        let path = self.path("");
        let answer = self.api.send("GET", &path, "application/json", None).await?;
        if self.profile.registration == Registration::Never {
            if answer.status != 404 {
                self.add_difference(format!(
                    "GET {path}: expected 404, actual {} {}",
                    answer.status, answer.body
                ));
            }
            return Ok(());
        }
        let row = answer.json()?;
        let actual = (row["connection_status"].as_str(), row["fw_version"].as_str());
        let expected = (Some(connection(self.device)), self.device.fw_version.as_deref());
        let last_seen = row["last_seen"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let seen = self.device.presence.last_seen;
        let fits = match (last_seen, seen) {
            (None, None) => true,
            (Some(at), Some((first, last))) => first <= at && at <= last,
            _ => false,
        };
        let subject = self.profile.id.clone();
        self.report.compare(&subject, "connection and firmware", &expected, &actual);
        if !fits {
            self.add_difference(format!("last_seen: expected {seen:?}, actual {last_seen:?}"));
        }
        Ok(())
    }
}

/// The connection status in the API.
pub(super) fn connection(device: &ExpectedDevice) -> &'static str {
    match device.presence.is_online {
        None => "unknown",
        Some(true) => "online",
        Some(false) => "offline",
    }
}
