//! Settings from the command line and the environment.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::Args;

use crate::mqtt::BrokerAddress;

/// The settings of an emulator, except for the routing, which is in the template.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The SAM template with topic rules, event sources and schedules
    #[arg(long, env = "IOT_CORE_TEMPLATE", value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,

    /// Outputs of the stores' stack as a JSON object, {"IngestQueueUrl": "...", ...}
    #[arg(long, env = "IOT_CORE_OUTPUTS", value_name = "FILE")]
    pub outputs: PathBuf,

    /// The MQTT broker, with NAME:PASSWORD@ in front if it requires a login (safer in the
    /// environment)
    #[arg(
        long,
        env = "IOT_CORE_MQTT",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:1883",
        hide_env_values = true
    )]
    pub mqtt: BrokerAddress,

    /// The client id of the persistent session at the broker; one emulator at a time can use it
    #[arg(
        long,
        env = "IOT_CORE_CLIENT_ID",
        value_name = "ID",
        default_value = "iot-core-emulator"
    )]
    pub client_id: String,

    /// The Lambda Invoke API of the functions
    #[arg(
        long,
        env = "IOT_CORE_FUNCTIONS",
        value_name = "URL",
        default_value = "http://127.0.0.1:9000"
    )]
    pub functions: String,

    /// The address of the iot-data API; a loopback address, because requests are not authenticated
    #[arg(long, env = "IOT_CORE_IOT_DATA", value_name = "IP:PORT", default_value = "127.0.0.1:4568", value_parser = parse_loopback)]
    pub iot_data: SocketAddr,

    /// The AWS endpoint of the queue [default: AWS itself]
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    pub endpoint: Option<String>,

    /// The maximum number of concurrent calls that send messages to the queue
    #[arg(long, env = "IOT_CORE_SEND_CALLS", value_name = "N", default_value = "4")]
    pub send_calls: NonZeroUsize,

    /// The maximum number of concurrent calls that receive messages, for each function
    #[arg(long, env = "IOT_CORE_RECEIVE_CALLS", value_name = "N", default_value = "4")]
    pub receive_calls: NonZeroUsize,

    /// The maximum number of concurrent invocations from the queue, for each function
    #[arg(long, env = "IOT_CORE_INVOCATIONS", value_name = "N", default_value = "2")]
    pub invocations: NonZeroUsize,

    /// The maximum number of records in an invocation [default: the BatchSize of the template, or
    /// 500]
    #[arg(long, env = "IOT_CORE_BATCH_SIZE", value_name = "N")]
    pub batch_size: Option<NonZeroUsize>,

    /// The time after which messages of a crashed emulator become visible again
    #[arg(long, env = "IOT_CORE_VISIBILITY_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub visibility_timeout: Duration,

    /// The timeout of an invocation [default: the Timeout of the function in the template]
    #[arg(long, env = "IOT_CORE_INVOKE_TIMEOUT", value_name = "SECONDS", value_parser = parse_seconds)]
    pub invoke_timeout: Option<Duration>,
}

fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "expected IP:PORT, for example 127.0.0.1:4568".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{} is not a loopback address", address.ip()))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=43_200) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a whole number of seconds from 1 to 43200".to_owned()),
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
    fn outputs_are_the_only_required_setting() {
        parse(&[]).unwrap();
        assert!(Cli::try_parse_from(["iot-core"]).is_err());
    }

    #[test]
    fn login_is_parsed_and_not_printed() {
        let broker = parse(&["--mqtt", "emulator:s:e@cret@127.0.0.1:1883"]).unwrap().mqtt;
        assert_eq!(format!("{broker} {broker:?}").matches("127.0.0.1:1883").count(), 2);
        assert!(!format!("{broker} {broker:?}").contains("cret"));
        assert!(parse(&["--mqtt", "emulator@127.0.0.1:1883"]).is_err());
    }

    #[test]
    fn iot_data_address_must_be_loopback() {
        for address in ["127.0.0.1:0", "127.0.0.2:4568", "[::1]:4568"] {
            assert!(parse(&["--iot-data", address]).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:4568", "192.168.1.2:4568", "[::]:4568", "localhost:4568", "4568"] {
            assert!(parse(&["--iot-data", address]).is_err(), "{address}");
        }
    }

    #[test]
    fn visibility_timeout_must_be_valid_for_sqs() {
        let config = parse(&["--visibility-timeout", "7"]).unwrap();
        assert_eq!(config.visibility_timeout, Duration::from_secs(7));
        for text in ["0", "43201", "-1", "1.5", "30s"] {
            assert!(parse(&["--visibility-timeout", text]).is_err(), "{text}");
        }
    }
}
