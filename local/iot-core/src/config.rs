//! Settings, from flags and environment.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::Args;

use crate::mqtt::BrokerAddress;

/// Everything that an edge can be told. Routing is not among it: that is in the template.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The SAM template with topic rules, event sources and schedules
    #[arg(long, env = "IOT_CORE_TEMPLATE", value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,

    /// Outputs of the stores' stack as a JSON object, {"IngestQueueUrl": "...", ...}
    #[arg(long, env = "IOT_CORE_OUTPUTS", value_name = "FILE")]
    pub outputs: PathBuf,

    /// The MQTT broker; NAME:PASSWORD@ before it where it asks who one is, better in the environment
    #[arg(
        long,
        env = "IOT_CORE_MQTT",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:1883",
        hide_env_values = true
    )]
    pub mqtt: BrokerAddress,

    /// Name of the session that the broker keeps for this edge; one edge at a time can use it
    #[arg(
        long,
        env = "IOT_CORE_CLIENT_ID",
        value_name = "ID",
        default_value = "iot-core-emulator"
    )]
    pub client_id: String,

    /// The runtime API that hosts the functions
    #[arg(
        long,
        env = "IOT_CORE_FUNCTIONS",
        value_name = "URL",
        default_value = "http://127.0.0.1:9000"
    )]
    pub functions: String,

    /// Where to offer iot-data's Publish; a loopback address, as nobody is asked for credentials
    #[arg(long, env = "IOT_CORE_IOT_DATA", value_name = "IP:PORT", default_value = "127.0.0.1:4568", value_parser = parse_loopback)]
    pub iot_data: SocketAddr,

    /// The AWS endpoint with the queue; without it the real one
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    pub endpoint: Option<String>,

    /// Calls to the queue that may be in flight from MQTT
    #[arg(long, env = "IOT_CORE_SEND_CALLS", value_name = "N", default_value = "4")]
    pub send_calls: NonZeroUsize,

    /// Calls to the queue that may be waiting for messages, for each function
    #[arg(long, env = "IOT_CORE_RECEIVE_CALLS", value_name = "N", default_value = "4")]
    pub receive_calls: NonZeroUsize,

    /// Invocations from the queue that may run at once, for each function
    #[arg(long, env = "IOT_CORE_INVOCATIONS", value_name = "N", default_value = "2")]
    pub invocations: NonZeroUsize,

    /// The most records in an invocation [default: the template's BatchSize, or 500]
    #[arg(long, env = "IOT_CORE_BATCH_SIZE", value_name = "N")]
    pub batch_size: Option<NonZeroUsize>,

    /// How long messages stay hidden when the edge that received them dies
    #[arg(long, env = "IOT_CORE_VISIBILITY_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub visibility_timeout: Duration,

    /// How long an invocation may take [default: the function's Timeout in the template]
    #[arg(long, env = "IOT_CORE_INVOKE_TIMEOUT", value_name = "SECONDS", value_parser = parse_seconds)]
    pub invoke_timeout: Option<Duration>,
}

fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write it as IP:PORT, for example 127.0.0.1:4568".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{} is no loopback address", address.ip()))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=43_200) => Ok(Duration::from_secs(seconds)),
        _ => Err("write it as a whole number of seconds, 1 to 43200".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        let required = ["iot-core", "--outputs", "outputs.json"];
        Cli::try_parse_from(required.iter().chain(arguments)).map(|cli| cli.config)
    }

    #[test]
    fn the_outputs_of_the_stack_are_all_that_must_be_given() {
        parse(&[]).unwrap();
        assert!(Cli::try_parse_from(["iot-core"]).is_err());
    }

    #[test]
    fn a_login_is_taken_and_never_shown() {
        let broker = parse(&["--mqtt", "edge:s:e@cret@127.0.0.1:1883"]).unwrap().mqtt;
        assert_eq!(format!("{broker} {broker:?}").matches("127.0.0.1:1883").count(), 2);
        assert!(!format!("{broker} {broker:?}").contains("cret"));
        assert!(parse(&["--mqtt", "edge@127.0.0.1:1883"]).is_err());
    }

    #[test]
    fn iot_data_is_offered_on_loopback_only() {
        for address in ["127.0.0.1:0", "127.0.0.2:4568", "[::1]:4568"] {
            assert!(parse(&["--iot-data", address]).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:4568", "192.168.1.2:4568", "[::]:4568", "localhost:4568", "4568"] {
            assert!(parse(&["--iot-data", address]).is_err(), "{address}");
        }
    }

    #[test]
    fn a_visibility_timeout_is_one_that_sqs_takes() {
        let config = parse(&["--visibility-timeout", "7"]).unwrap();
        assert_eq!(config.visibility_timeout, Duration::from_secs(7));
        for text in ["0", "43201", "-1", "1.5", "30s"] {
            assert!(parse(&["--visibility-timeout", text]).is_err(), "{text}");
        }
    }
}
