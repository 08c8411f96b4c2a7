//! The configuration that `update_config` changes, and the ranges that a device accepts
//! (docs/protocol.md).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

/// The address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The error of parsing a [`Broker`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the format is HOST:PORT, for example 127.0.0.1:1883")]
pub struct InvalidBroker;

impl FromStr for Broker {
    type Err = InvalidBroker;

    fn from_str(text: &str) -> Result<Self, InvalidBroker> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidBroker)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(InvalidBroker)?;
        if host.is_empty() {
            return Err(InvalidBroker);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Valid sampling cadences, in milliseconds.
pub const SAMPLING_CADENCE_MS: RangeInclusive<u64> = 100..=60_000;
/// Valid send intervals, in seconds.
pub const SEND_INTERVAL_S: RangeInclusive<u64> = 1..=3_600;
/// Valid heartbeat intervals, in seconds.
pub const HELLO_INTERVAL_S: RangeInclusive<u64> = 5..=3_600;
/// Valid numbers of brokers.
pub const BROKERS: RangeInclusive<usize> = 1..=5;

/// The configuration of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Interval between samples, ms.
    pub sampling_cadence_ms: u64,
    /// Interval between telemetry messages, s.
    pub send_interval_s: u64,
    /// Interval between heartbeats, s.
    pub hello_interval_s: u64,
    /// The brokers, in the order in which they are tried.
    pub brokers: Vec<Broker>,
}

/// The reason why a device rejects a configuration; its text is the detail of the acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// No parameter is given.
    #[error("no parameter given")]
    Empty,
    /// A parameter is unknown, and so would have no effect.
    #[error("{0}: unknown parameter")]
    Unknown(String),
    /// A parameter is not an integer in its range.
    #[error("{name}: must be an integer in {}..{}", .range.start(), .range.end())]
    Range {
        /// The name of the parameter.
        name: &'static str,
        /// The valid range.
        range: RangeInclusive<u64>,
    },
    /// `brokers` is not a list of brokers.
    #[error("brokers: must be 1 to 5 of {{host, port}}")]
    Brokers,
}

impl Configuration {
    /// The defaults of docs/protocol.md, with one broker.
    pub fn with_broker(broker: Broker) -> Self {
        Self {
            sampling_cadence_ms: 1_000,
            send_interval_s: 10,
            hello_interval_s: 30,
            brokers: vec![broker],
        }
    }

    /// A copy with `params` applied, all of them or none.
    pub fn updated(&self, params: &Map<String, Value>) -> Result<Self, ConfigurationError> {
        if params.is_empty() {
            return Err(ConfigurationError::Empty);
        }
        let mut next = self.clone();
        for (name, value) in params {
            match name.as_str() {
                "sampling_cadence_ms" => {
                    next.sampling_cadence_ms =
                        integer("sampling_cadence_ms", value, SAMPLING_CADENCE_MS)?;
                }
                "send_interval_s" => {
                    next.send_interval_s = integer("send_interval_s", value, SEND_INTERVAL_S)?;
                }
                "hello_interval_s" => {
                    next.hello_interval_s = integer("hello_interval_s", value, HELLO_INTERVAL_S)?;
                }
                "brokers" => next.brokers = brokers(value).ok_or(ConfigurationError::Brokers)?,
                _ => return Err(ConfigurationError::Unknown(name.clone())),
            }
        }
        Ok(next)
    }

    /// The interval between samples.
    pub fn sampling_cadence(&self) -> Duration {
        Duration::from_millis(self.sampling_cadence_ms)
    }

    /// The interval between telemetry messages.
    pub fn send_interval(&self) -> Duration {
        Duration::from_secs(self.send_interval_s)
    }

    /// The interval between heartbeats; `None` if telemetry is sent at least as often.
    pub fn heartbeat(&self) -> Option<Duration> {
        (self.send_interval_s > self.hello_interval_s)
            .then(|| Duration::from_secs(self.hello_interval_s))
    }
}

fn integer(
    name: &'static str,
    value: &Value,
    range: RangeInclusive<u64>,
) -> Result<u64, ConfigurationError> {
    match value.as_u64() {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(ConfigurationError::Range { name, range }),
    }
}

fn brokers(value: &Value) -> Option<Vec<Broker>> {
    let list = value.as_array().filter(|list| BROKERS.contains(&list.len()))?;
    list.iter()
        .map(|entry| {
            let host = entry.get("host")?.as_str().filter(|host| !host.is_empty())?;
            let port = u16::try_from(entry.get("port")?.as_u64()?).ok().filter(|port| *port > 0)?;
            Some(Broker { host: host.to_owned(), port })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(params: Value) -> Result<Configuration, ConfigurationError> {
        let Value::Object(params) = params else { panic!("not an object") };
        Configuration::with_broker("127.0.0.1:1883".parse().unwrap()).updated(&params)
    }

    #[test]
    fn every_parameter_changes_the_configuration() {
        let next = update(json!({
            "sampling_cadence_ms": 500,
            "send_interval_s": 60,
            "hello_interval_s": 15,
            "brokers": [{"host": "a.example", "port": 8883}, {"host": "b.example", "port": 1883}],
        }))
        .unwrap();
        assert_eq!(next.sampling_cadence(), Duration::from_millis(500));
        assert_eq!(next.send_interval(), Duration::from_secs(60));
        assert_eq!(next.heartbeat(), Some(Duration::from_secs(15)));
        assert_eq!(next.brokers[0].to_string(), "a.example:8883");
        assert_eq!(next.brokers.len(), 2);
    }

    #[test]
    fn parameters_outside_their_range_are_rejected() {
        for (name, low, high) in [
            ("sampling_cadence_ms", 100, 60_000),
            ("send_interval_s", 1, 3_600),
            ("hello_interval_s", 5, 3_600),
        ] {
            for good in [low, high] {
                assert!(update(json!({ name: good })).is_ok(), "{name} = {good}");
            }
            for bad in [json!(low - 1), json!(high + 1), json!(-1), json!(1.5), json!("10")] {
                let refusal = update(json!({ name: bad })).unwrap_err();
                assert!(refusal.to_string().starts_with(name), "{name} = {bad}: {refusal}");
            }
        }
    }

    #[test]
    fn unknown_parameter_is_rejected_with_its_name() {
        let refusal = update(json!({"send_interval_s": 5, "colour": "red"})).unwrap_err();
        assert_eq!(refusal.to_string(), "colour: unknown parameter");
        assert_eq!(update(json!({})), Err(ConfigurationError::Empty));
    }

    #[test]
    fn brokers_must_be_one_to_five_with_host_and_port() {
        let one = json!({"host": "h", "port": 1});
        for bad in [
            json!([]),
            json!("h:1"),
            json!([{"host": "h"}]),
            json!([{"host": "", "port": 1}]),
            json!([{"host": "h", "port": 0}]),
            json!([{"host": "h", "port": 65_536}]),
            json!([one, one, one, one, one, one]),
        ] {
            assert_eq!(update(json!({"brokers": bad})), Err(ConfigurationError::Brokers), "{bad}");
        }
    }

    #[test]
    fn no_heartbeat_when_telemetry_is_as_frequent() {
        assert_eq!(update(json!({"send_interval_s": 30})).unwrap().heartbeat(), None);
        let slow = update(json!({"send_interval_s": 31})).unwrap();
        assert_eq!(slow.heartbeat(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn broker_is_parsed_from_host_and_port() {
        assert_eq!("localhost:1883".parse::<Broker>().unwrap().port, 1_883);
        for bad in ["localhost", ":1883", "localhost:", "localhost:0", "localhost:70000"] {
            assert_eq!(bad.parse::<Broker>(), Err(InvalidBroker), "{bad}");
        }
    }
}
