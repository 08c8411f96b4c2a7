//! The command line.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use jiff::SignedDuration;

use crate::config::{
    Broker, Configuration, HELLO_INTERVAL_S, SAMPLING_CADENCE_MS, SEND_INTERVAL_S,
};
use crate::faults::FaultRates;
use crate::fleet::{FleetPlan, default_fleet, named_fleet, numbered_fleet};

/// Simulates electricity meters on trains: telemetry, heartbeats, last wills, commands and firmware
/// upgrades over MQTT, and what a bad network does to them.
///
/// A duration is a number of seconds (10) or has a unit (500ms, 90s, 5m, 1h).
#[derive(Debug, Parser)]
#[command(name = "simulator", version)]
pub struct Arguments {
    /// The MQTT broker
    #[arg(long, env = "MQTT_BROKER", value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub broker: Broker,

    /// Connect with TLS and the credentials of each device in FOLDER/{device id}: ca.pem,
    /// certificate.pem, private.key, as `provision` writes them
    #[arg(long, env = "MQTT_IDENTITIES", value_name = "FOLDER")]
    pub identities: Option<PathBuf>,

    /// Number of devices: sim-dc-001, sim-dc-002, sim-ac-001, then sim-0004 and so on, DC and AC in
    /// turn
    #[arg(long, env = "DEVICES", value_name = "N", default_value_t = 3)]
    pub devices: usize,

    /// Device id, instead of the default devices (repeatable); dc… is a DC meter, ac… an AC meter
    #[arg(long = "device-id", value_name = "ID", conflicts_with = "prefix")]
    pub device_ids: Vec<String>,

    /// Prefix of the device ids: PREFIX-0001 and so on
    #[arg(long)]
    pub prefix: Option<String>,

    /// Interval between telemetry messages of a device
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub interval: Duration,

    /// Interval between samples in a message
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub sampling: Duration,

    /// Interval between heartbeats, which are sent if --interval is longer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub hello_interval: Duration,

    /// Probability that a message is lost, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub loss: f64,

    /// Probability that a message is sent twice, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub duplication: f64,

    /// Probability that a message is sent after later ones, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub reordering: f64,

    /// Average time between power failures of a device: no DISCONNECT, then a new boot with seq 0
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub restart_every: Option<Duration>,

    /// Stop each device after this many telemetry messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Stop after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Seed of the simulation; the same seed repeats rides and faults. Default: random, and printed
    #[arg(long)]
    pub seed: Option<u64>,

    /// Initial firmware version
    #[arg(long, value_name = "SEMVER", default_value = "1.0.0")]
    pub fw_version: semver::Version,

    /// Messages that a device buffers while it has no connection
    #[arg(long, value_name = "MESSAGES", default_value_t = 1_000)]
    pub buffer: usize,

    /// New connections per second at the start
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_rate: u32,
}

impl Arguments {
    /// The fleet of these arguments, with this seed.
    ///
    /// # Errors
    ///
    /// When an id or an interval is not valid by docs/protocol.md.
    pub fn plan(&self, seed: u64) -> Result<FleetPlan> {
        let devices = if !self.device_ids.is_empty() {
            named_fleet(&self.device_ids)
        } else if let Some(prefix) = &self.prefix {
            numbered_fleet(prefix, self.devices)
        } else {
            default_fleet(self.devices)
        };
        let mut ids = HashSet::new();
        for member in &devices {
            let id = &member.device_id;
            ensure!(
                ids.insert(id),
                "{id} is given twice: the broker disconnects the first of two clients with one id"
            );
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_:-".contains(&b);
            ensure!(
                (1..=128).contains(&id.len()) && id.bytes().all(allowed),
                "{id:?} is not a device id: use 1 to 128 of A-Z a-z 0-9 _ : -"
            );
        }
        let config = Configuration {
            sampling_cadence_ms: in_range("--sampling", self.sampling, SAMPLING_CADENCE_MS, 1)?,
            send_interval_s: in_range("--interval", self.interval, SEND_INTERVAL_S, 1_000)?,
            hello_interval_s: in_range(
                "--hello-interval",
                self.hello_interval,
                HELLO_INTERVAL_S,
                1_000,
            )?,
            brokers: vec![self.broker.clone()],
        };
        Ok(FleetPlan {
            devices,
            config,
            fw_version: self.fw_version.clone(),
            faults: FaultRates {
                loss: self.loss,
                duplication: self.duplication,
                reordering: self.reordering,
            },
            buffer: self.buffer,
            count: self.count,
            seed,
            connect_rate: self.connect_rate,
        })
    }
}

/// The duration as a whole number of units of `unit_ms` within the range of the protocol.
fn in_range(
    flag: &str,
    duration: Duration,
    range: std::ops::RangeInclusive<u64>,
    unit_ms: u64,
) -> Result<u64> {
    let unit = if unit_ms == 1 { "milliseconds" } else { "whole seconds" };
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ensure!(
        ms.is_multiple_of(unit_ms) && range.contains(&(ms / unit_ms)),
        "{flag} must be {} to {} {unit} (docs/protocol.md)",
        range.start(),
        range.end()
    );
    Ok(ms / unit_ms)
}

/// Parses a duration: a number of seconds, or a number with a unit.
///
/// # Errors
///
/// When the text is neither, or the duration is not positive. The error describes the format.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok()),
    };
    parsed.filter(|duration| *duration > Duration::ZERO).ok_or_else(|| {
        "a duration is a number of seconds (10) or has a unit (500ms, 5m)".to_owned()
    })
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|p| (0.0..=1.0).contains(p))
        .ok_or_else(|| "a probability is a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn plan(arguments: &[&str]) -> Result<FleetPlan> {
        let line = std::iter::once("simulator").chain(arguments.iter().copied());
        Arguments::try_parse_from(line)?.plan(1)
    }

    #[test]
    fn command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_protocol() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.config, Configuration::with_broker("127.0.0.1:1883".parse().unwrap()));
        assert_eq!(plan.devices, default_fleet(3));
    }

    #[test]
    fn duration_is_parsed_with_and_without_unit() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "-1", "0", "soon", "NaN", "-5m", "1e300"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn invalid_argument_is_an_error_with_its_name() {
        for (arguments, name) in [
            (&["--interval", "2h"][..], "--interval"),
            (&["--interval", "1500ms"], "--interval"),
            (&["--sampling", "50ms"], "--sampling"),
            (&["--hello-interval", "4"], "--hello-interval"),
            (&["--device-id", "a/b"], "a/b"),
            (&["--device-id", "x", "--device-id", "x"], "x is given twice"),
            (&["--loss", "1.5"], "--loss"),
            (&["--broker", "nowhere"], "--broker"),
        ] {
            let error = plan(arguments).unwrap_err().to_string();
            assert!(error.contains(name), "{arguments:?}: {error}");
        }
    }
}
