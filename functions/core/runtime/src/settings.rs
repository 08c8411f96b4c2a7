//! Settings from the environment, read and checked once, at start.
//!
//! One small struct a concern, so that a function asks for no more than it uses:
//! `let (api, tables): (Api, Tables) = settings::load()?;`. Every problem is named at once, since a
//! setting a start is a long evening.

use std::fmt;
use std::ops::RangeInclusive;

use meter_aws::settings::{ArchiveBucket, IngestQueue, Tables};
use meter_domain::archive::Layout;
use meter_domain::state::{DevicePolicy, NotificationPolicy};
use meter_http::response_limit::MAX_ESCAPED_BYTES;
use meter_http::settings::{Api, Auth, Origins};

/// The environment as it is read, and what was wrong with it so far.
pub struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

/// A concern's settings.
pub trait Settings: Sized {
    /// Reads them. A problem is noted in the environment and a stand-in returned, so that the rest is
    /// read too; [`load`] never lets a stand-in out.
    fn read(environment: &mut Environment<'_>) -> Self;
}

/// What is wrong with the environment, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSettings(Vec<String>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "settings: {}", self.0.join("; "))
    }
}

/// Reads settings from the process's environment.
pub fn load<S: Settings>() -> Result<S, InvalidSettings> {
    load_from(&|name| std::env::var(name).ok())
}

/// Reads settings from any lookup.
pub fn load_from<S: Settings>(
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<S, InvalidSettings> {
    let mut environment = Environment { lookup, problems: Vec::new() };
    let settings = S::read(&mut environment);
    match environment.problems {
        problems if problems.is_empty() => Ok(settings),
        problems => Err(InvalidSettings(problems)),
    }
}

impl Environment<'_> {
    /// A variable's value. An empty one is as if it were not set: CloudFormation cannot leave a
    /// variable out, only empty.
    fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn required(&mut self, name: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.problems.push(format!("{name} is missing"));
            String::new()
        })
    }

    /// One of a few words.
    fn one_of<T: Copy>(&mut self, name: &str, default: T, words: &[(&str, T)]) -> T {
        let Some(value) = self.get(name) else {
            return default;
        };
        let found = words.iter().find(|(word, _)| *word == value);
        found.map_or_else(
            || {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let words = words.join(" or ");
                self.problems.push(format!("{name} must be {words}, not {value:?}"));
                default
            },
            |(_, meaning)| *meaning,
        )
    }

    fn flag(&mut self, name: &str) -> bool {
        self.one_of(name, false, &[("true", true), ("false", false)])
    }

    fn integer(&mut self, name: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(value) = self.get(name) else {
            return default;
        };
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problems.push(format!(
                    "{name} must be an integer from {} to {}, not {value:?}",
                    range.start(),
                    range.end()
                ));
                default
            }
        }
    }
}

impl Settings for Tables {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            devices: environment.required("DEVICES_TABLE"),
            state: environment.required("STATE_TABLE"),
            messages: environment.required("MESSAGES_TABLE"),
            alerts: environment.required("ALERTS_TABLE"),
            commands: environment.required("COMMANDS_TABLE"),
            rules: environment.required("RULES_TABLE"),
        }
    }
}

impl Settings for ArchiveBucket {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self { name: environment.required("ARCHIVE_BUCKET") }
    }
}

impl Settings for IngestQueue {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self { url: environment.required("INGEST_QUEUE_URL") }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// `ARCHIVE_LAYOUT`: `batch` (default) or `message`, see [`Layout`].
    pub archive_layout: Layout,
    /// `REQUIRE_REGISTRATION`: `true` quarantines messages of devices that are not registered;
    /// `false` (default) stores them, so that registering later finds them.
    pub require_registration: bool,
    /// `MESSAGE_TTL_DAYS`: days after receipt when the index entry and the measurements of a message
    /// are forgotten, up to 36,500. The archive's objects are not (that is the bucket's lifecycle).
    /// 0 (default) is never: data goes only when somebody said so.
    pub message_ttl_days: u32,
    /// `MAX_METRICS_PER_DEVICE`: different metrics that a device may have, 1 to 1,000, default 64.
    /// Each costs some 150 bytes in the device's state, which every batch of it reads and writes.
    pub max_metrics_per_device: u32,
}

impl Settings for Ingest {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            archive_layout: environment.one_of(
                "ARCHIVE_LAYOUT",
                Layout::Batch,
                &[("batch", Layout::Batch), ("message", Layout::Message)],
            ),
            require_registration: environment.flag("REQUIRE_REGISTRATION"),
            message_ttl_days: environment.integer("MESSAGE_TTL_DAYS", 0, 0..=36_500),
            max_metrics_per_device: environment.integer("MAX_METRICS_PER_DEVICE", 64, 1..=1_000),
        }
    }
}

impl Ingest {
    /// Days until the store may forget a message; none: never.
    pub fn message_ttl_days(&self) -> Option<u32> {
        (self.message_ttl_days > 0).then_some(self.message_ttl_days)
    }

    /// What holds for devices where their messages are taken in.
    pub fn device_policy(
        &self,
        presence: &Presence,
        metrics: &Metrics,
        alerting: &Alerting,
    ) -> DevicePolicy {
        alerting.extend_policy(DevicePolicy {
            max_metrics: self.max_metrics_per_device as usize,
            rollup_gap_s: metrics.rollup_gap_s(),
            ..presence.device_policy()
        })
    }
}

/// The time series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// `METRIC_STORE`: `dynamodb` (default) or `timestream`.
    pub store: MetricStore,
    /// `INTEGRAL_MAX_GAP_S`: the longest gap between two points, in seconds, that an integral bridges: 1 to
    /// 3,600, default 300. A change has everything rolled up again.
    pub max_gap_s: u32,
    /// `ROLLUP_TTL_DAYS`: days after which rollups of minutes and hours are forgotten, up to 36,500. 0
    /// (default) is never: they are what is left when `MESSAGE_TTL_DAYS` has taken the points.
    pub rollup_ttl_days: u32,
}

/// Where the time series is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricStore {
    /// In the table `messages`, with rollups.
    DynamoDb,
    /// In Timestream for LiveAnalytics.
    Timestream {
        /// `TIMESTREAM_DATABASE`.
        database: String,
        /// `TIMESTREAM_TABLE`.
        table: String,
    },
}

impl Settings for Metrics {
    fn read(environment: &mut Environment<'_>) -> Self {
        let words = [("dynamodb", false), ("timestream", true)];
        let store = if environment.one_of("METRIC_STORE", false, &words) {
            MetricStore::Timestream {
                database: environment.required("TIMESTREAM_DATABASE"),
                table: environment.required("TIMESTREAM_TABLE"),
            }
        } else {
            MetricStore::DynamoDb
        };
        Self {
            store,
            max_gap_s: environment.integer("INTEGRAL_MAX_GAP_S", 300, 1..=3_600),
            rollup_ttl_days: environment.integer("ROLLUP_TTL_DAYS", 0, 0..=36_500),
        }
    }
}

impl Metrics {
    /// See [`Rules::rollup_gap_s`].
    pub fn rollup_gap_s(&self) -> Option<u32> {
        (self.store == MetricStore::DynamoDb).then_some(self.max_gap_s)
    }

    /// Days until rollups may be forgotten; none: never.
    pub fn rollup_ttl_days(&self) -> Option<u32> {
        (self.rollup_ttl_days > 0).then_some(self.rollup_ttl_days)
    }
}

/// When a silent device is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// `OFFLINE_AFTER_S`: seconds of silence, at least, before a device counts as offline: 1 to
    /// 86,400, default 60. A device that sends rarely gets three of its intervals
    /// (docs/adr/0010).
    pub offline_after_s: u32,
    /// `OFFLINE_HOLD_DOWN_S`: a device that goes again within so many seconds of its return reopens
    /// its alert instead of raising another: 0 to 86,400, default 300.
    pub hold_down_s: u32,
    /// `GAP_GRACE_S`: seconds for which sequence numbers may be missing before an alert says so: 1 to
    /// 86,400, default 60.
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
    /// What holds for devices, the number of metrics aside.
    pub fn device_policy(&self) -> DevicePolicy {
        DevicePolicy {
            offline_after_s: self.offline_after_s,
            hold_down_s: self.hold_down_s,
            gap_grace_s: self.gap_grace_s,
            ..DevicePolicy::default()
        }
    }
}

/// How alert rules are evaluated, and who hears of alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerting {
    /// `RULE_CACHE_TTL_S`: seconds for which a process uses the alert rules that it has read: 1 to 3,600, default 60.
    /// So long a change of a rule may take to be heard of.
    pub rules_max_age_s: u32,
    /// `RULE_REORDER_WINDOW_S`: seconds of the device's clock by which a sample may come after a newer one and still be
    /// judged in its turn: 0 to 600, default 0. Samples are held back for so long, and alerts begin as much later; the
    /// samples of a batch are put in order in any case.
    pub rules_reorder_s: u32,
    /// `ALERT_HOLD_DOWN_S`: the alert of a rule that ended no longer ago than so many seconds is reopened in place of
    /// another, and nobody is told: 0 to 86,400, default 300. Its end is told when that time is over.
    pub hold_down_s: u32,
    /// `ALERT_TOPIC_ARN`: the SNS topic that notifications of alerts go to. Not set (default): there are none.
    pub topic_arn: Option<String>,
    /// `NOTIFY_DEVICE_ALERTS`: `true` (default) also sends notifications of what the platform itself finds out of devices
    /// (`device_offline`, `sequence_gap`); `false` only of alert rules.
    pub notify_device_alerts: bool,
}

impl Settings for Alerting {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            rules_max_age_s: environment.integer("RULE_CACHE_TTL_S", 60, 1..=3_600),
            rules_reorder_s: environment.integer("RULE_REORDER_WINDOW_S", 0, 0..=600),
            hold_down_s: environment.integer("ALERT_HOLD_DOWN_S", 300, 0..=86_400),
            topic_arn: read_topic(environment, "ALERT_TOPIC_ARN"),
            notify_device_alerts: environment.one_of(
                "NOTIFY_DEVICE_ALERTS",
                true,
                &[("true", true), ("false", false)],
            ),
        }
    }
}

impl Alerting {
    /// What holds for devices besides.
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

fn read_topic(environment: &mut Environment<'_>, name: &str) -> Option<String> {
    let arn = environment.get(name)?;
    if !(arn.starts_with("arn:") && arn.split(':').nth(2) == Some("sns")) {
        environment.problems.push(format!("{name} must be the ARN of an SNS topic, not {arn:?}"));
    }
    Some(arn)
}

/// How long a command lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// `COMMAND_TIMEOUT_S`: seconds from a command's making until it expires and counts as
    /// unanswered: 1 to 604,800, default 300.
    pub timeout_s: u32,
}

impl Settings for Commands {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self { timeout_s: environment.integer("COMMAND_TIMEOUT_S", 300, 1..=604_800) }
    }
}

impl Settings for Api {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            auth: environment.one_of(
                "API_AUTH",
                Auth::Jwt,
                &[("jwt", Auth::Jwt), ("none", Auth::None)],
            ),
            cors: read_origins(environment, "CORS_ALLOW_ORIGIN"),
            max_response_bytes: environment.integer(
                "MAX_RESPONSE_BYTES",
                MAX_ESCAPED_BYTES,
                100_000..=MAX_ESCAPED_BYTES,
            ),
        }
    }
}

fn read_origins(environment: &mut Environment<'_>, name: &str) -> Origins {
    let Some(value) = environment.get(name) else {
        return Origins::None;
    };
    if value == "*" {
        return Origins::Any;
    }
    let origins: Vec<_> = value.split(',').map(|o| o.trim().to_owned()).collect();
    if !origins.iter().all(|origin| is_origin(origin)) {
        environment.problems.push(format!(
            "{name} must be * or origins like https://example.com separated by commas, not {value:?}"
        ));
    }
    Origins::List(origins)
}

/// Scheme, host and perhaps a port; no path, not even a slash, or it would never equal what browsers
/// send.
fn is_origin(text: &str) -> bool {
    let rest = text.split_once("://").map(|(scheme, rest)| {
        matches!(scheme, "http" | "https")
            && !rest.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
    });
    rest == Some(true)
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

    use super::*;

    fn read<S: Settings>(variables: &[(&str, &str)]) -> Result<S, InvalidSettings> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        load_from(&|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn everything_that_is_missing_or_wrong_is_named_in_one_line() {
        let bad = read::<(Api, ArchiveBucket, Ingest, Presence)>(&[
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
            bad,
            "settings: API_AUTH must be jwt or none, not \"off\"; \
             CORS_ALLOW_ORIGIN must be * or origins like https://example.com separated by commas, not \"https://a.example/\"; \
             MAX_RESPONSE_BYTES must be an integer from 100000 to 5500000, not \"6000000\"; \
             ARCHIVE_BUCKET is missing; \
             ARCHIVE_LAYOUT must be batch or message, not \"flat\"; \
             REQUIRE_REGISTRATION must be true or false, not \"yes\"; \
             MAX_METRICS_PER_DEVICE must be an integer from 1 to 1000, not \"0\"; \
             OFFLINE_AFTER_S must be an integer from 1 to 86400, not \"1m\""
        );
    }

    #[test]
    fn what_has_a_default_may_be_left_out_and_the_api_is_closed_by_default() {
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

    #[test]
    fn people_are_told_of_alerts_where_there_is_a_topic() {
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
        let bad = read::<Alerting>(&[("ALERT_TOPIC_ARN", "alerts")]).unwrap_err().to_string();
        assert!(bad.contains("ALERT_TOPIC_ARN must be the ARN of an SNS topic"), "{bad}");
    }

    #[test]
    fn a_function_asks_only_for_what_it_uses() {
        assert_eq!(
            read::<ArchiveBucket>(&[("ARCHIVE_BUCKET", "b")]),
            Ok(ArchiveBucket { name: "b".to_owned() })
        );
        let missing = read::<Tables>(&[("DEVICES_TABLE", "d"), ("ALERTS_TABLE", "a")]);
        assert_eq!(
            missing.unwrap_err().to_string(),
            "settings: STATE_TABLE is missing; MESSAGES_TABLE is missing; COMMANDS_TABLE is missing; \
             RULES_TABLE is missing"
        );
    }

    #[test]
    fn origins_are_separated_by_commas() {
        let api: Api =
            read(&[("CORS_ALLOW_ORIGIN", "https://a.example, http://127.0.0.1:3000")]).unwrap();
        assert_eq!(
            api.cors,
            Origins::List(vec!["https://a.example".to_owned(), "http://127.0.0.1:3000".to_owned()])
        );
        let api: Api = read(&[("CORS_ALLOW_ORIGIN", "*")]).unwrap();
        assert_eq!(api.cors, Origins::Any);
    }
}
