//! Settings from environment variables, read and validated once at the start of a process.
//!
//! Each concern has a struct, and a function reads those that it uses: `let (api, tables): (Api,
//! Tables) = settings::load()?;`. All invalid settings are reported at once.

mod alerting;
mod api;
mod commands;
mod environment;
mod ingest;
mod metrics;
mod presence;
mod resources;

use std::fmt;

pub use self::alerting::Alerting;
pub use self::commands::Commands;
pub use self::environment::Environment;
pub use self::ingest::Ingest;
pub use self::metrics::{MetricStore, Metrics};
pub use self::presence::Presence;

/// The settings of one concern.
pub trait Settings: Sized {
    /// Reads the settings.
    ///
    /// An invalid value is reported to the environment and replaced by a placeholder, so that the
    /// remaining settings are validated, too. [`load`] returns no settings with placeholders.
    fn read(environment: &mut Environment<'_>) -> Self;
}

/// All invalid settings of an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSettings(Vec<String>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid settings: {}", self.0.join("; "))
    }
}

/// Reads settings from the environment of the process.
///
/// # Errors
/// If any of the settings is missing or invalid.
pub fn load<S: Settings>() -> Result<S, InvalidSettings> {
    load_from(&|name| std::env::var(name).ok())
}

/// Reads settings from any source of variables.
///
/// # Errors
/// If any of the settings is missing or invalid.
pub fn load_from<S: Settings>(
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<S, InvalidSettings> {
    let mut environment = Environment::new(lookup);
    let settings = S::read(&mut environment);
    match environment.into_problems() {
        problems if problems.is_empty() => Ok(settings),
        problems => Err(InvalidSettings(problems)),
    }
}

macro_rules! impl_settings_for_tuple {
    ($($concern:ident),+) => {
        impl<$($concern: Settings),+> Settings for ($($concern,)+) {
            fn read(environment: &mut Environment<'_>) -> Self {
                ($($concern::read(environment),)+)
            }
        }
    };
}

impl_settings_for_tuple!(A, B);
impl_settings_for_tuple!(A, B, C);
impl_settings_for_tuple!(A, B, C, D);
impl_settings_for_tuple!(A, B, C, D, E);
impl_settings_for_tuple!(A, B, C, D, E, F);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use meter_aws::settings::ArchiveBucket;
    use meter_domain::archive::Layout;
    use meter_http::settings::{Api, Auth, Origins};

    use super::*;

    pub(super) fn read<S: Settings>(variables: &[(&str, &str)]) -> Result<S, InvalidSettings> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        load_from(&|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn all_invalid_settings_are_reported_at_once() {
        let error = read::<(Api, ArchiveBucket, Ingest, Presence)>(&[
            ("API_AUTH", "off"),
            ("CORS_ALLOW_ORIGIN", "https://a.example/"),
            ("MAX_RESPONSE_BYTES", "6000000"),
            ("ARCHIVE_BUCKET", ""),
            ("ARCHIVE_LAYOUT", "flat"),
            ("REQUIRE_REGISTRATION", "yes"),
            ("MAX_METRICS_PER_DEVICE", "0"),
            ("OFFLINE_AFTER_S", "1m"),
        ])
        .unwrap_err()
        .to_string();
        assert_eq!(
            error,
            "invalid settings: API_AUTH must be jwt or none, not \"off\"; \
             CORS_ALLOW_ORIGIN must be * or origins like https://example.com separated by commas, \
             not \"https://a.example/\"; \
             MAX_RESPONSE_BYTES must be an integer from 100000 to 5500000, not \"6000000\"; \
             ARCHIVE_BUCKET is missing; \
             ARCHIVE_LAYOUT must be batch or message, not \"flat\"; \
             REQUIRE_REGISTRATION must be true or false, not \"yes\"; \
             MAX_METRICS_PER_DEVICE must be an integer from 1 to 1000, not \"0\"; \
             OFFLINE_AFTER_S must be an integer from 1 to 86400, not \"1m\""
        );
    }

    #[test]
    fn optional_settings_have_defaults_and_the_api_requires_authorization() {
        let (api, ingest, presence, commands) =
            read::<(Api, Ingest, Presence, Commands)>(&[("API_AUTH", "")]).unwrap();
        assert_eq!(api, Api::default());
        assert_eq!((api.auth, api.cors), (Auth::Jwt, Origins::None));
        assert_eq!(
            ingest,
            Ingest {
                archive_layout: Layout::Batch,
                require_registration: false,
                message_ttl_days: 0,
                max_metrics_per_device: 64
            }
        );
        let expected = Presence { offline_after_s: 60, hold_down_s: 300, gap_grace_s: 60 };
        assert_eq!((presence, commands.timeout_s), (expected, 300));
    }
}
