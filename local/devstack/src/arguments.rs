//! The command line.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use devstack::{Components, MetricStore, Options, Ports};

/// The whole system on one machine
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// Folder of tables, objects, queued messages and logs
    #[arg(long, global = true, env = "DATA", value_name = "FOLDER", default_value = ".local")]
    pub(crate) data: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start everything; Ctrl-C stops it in order
    Run(RunArgs),
    /// Remove all data and logs
    Reset,
    /// Print notifications of alerts as they are sent, until Ctrl-C
    WatchNotifications(WatchNotificationsArgs),
    /// Run a command with a temporary system: free ports, a temporary folder, no devices
    ///
    /// The environment of the command contains REST_URL, MQTT (HOST:PORT) and the settings of the
    /// functions; PATH contains the binaries of this project.
    Exec(ExecArgs),
}

#[derive(Args)]
pub(crate) struct ExecArgs {
    /// The store of metrics
    #[arg(long, env = "METRIC_STORE", default_value = "dynamodb")]
    pub(crate) metric_store: MetricStore,
    /// Processes of each function
    #[arg(long, env = "INSTANCES", default_value_t = Options::default().instances)]
    pub(crate) instances: usize,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct WatchNotificationsArgs {
    /// Port of the AWS endpoint of `devstack run`
    #[arg(long, env = "ENDPOINT_PORT", default_value_t = Ports::default().endpoint)]
    pub(crate) endpoint_port: u16,
    /// Port of the REST API, for the commands that are printed
    #[arg(long, env = "PORT", default_value_t = Ports::default().rest)]
    pub(crate) port: u16,
    /// Port of the MQTT broker, for the commands that are printed
    #[arg(long, env = "MQTT_PORT", default_value_t = Ports::default().mqtt)]
    pub(crate) mqtt_port: u16,
    /// Whether devices connect with TLS, for the commands that are printed
    #[arg(long, env = "SECURE", value_parser = FalseyValueParser::new())]
    pub(crate) secure: bool,
    /// Port of MQTT with TLS, for the commands that are printed
    #[arg(long, env = "TLS_PORT", default_value_t = 8883)]
    pub(crate) tls_port: u16,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Port of the REST API
    #[arg(long, env = "PORT", default_value_t = Ports::default().rest)]
    port: u16,
    /// Port of the MQTT broker
    #[arg(long, env = "MQTT_PORT", default_value_t = Ports::default().mqtt)]
    mqtt_port: u16,
    /// Port of the AWS endpoint
    #[arg(long, env = "ENDPOINT_PORT", default_value_t = Ports::default().endpoint)]
    endpoint_port: u16,
    /// A running AWS endpoint (S3, DynamoDB, SQS, SNS, CloudFormation) to use instead of starting
    /// one
    #[arg(long, env = "ENDPOINT_URL", value_name = "URL")]
    endpoint_url: Option<String>,
    /// A running MQTT broker to use instead of starting one
    #[arg(long, env = "BROKER", value_name = "HOST:PORT", conflicts_with = "secure")]
    broker: Option<String>,
    /// Address that the REST API listens on; only a container needs another than loopback
    #[arg(long, env = "REST_ADDRESS", value_name = "IP", default_value_t = Options::default().rest_address)]
    rest_address: IpAddr,
    /// Port of the iot-data API of the IoT Core emulator
    #[arg(long, env = "IOT_DATA_PORT", default_value_t = Ports::default().iot_data)]
    iot_data_port: u16,
    /// Port where ingest and watchdog are invoked
    #[arg(long, env = "RUNTIME_PORT", default_value_t = Ports::default().functions)]
    runtime_port: u16,
    /// The store of metrics
    #[arg(long, env = "METRIC_STORE", default_value = "dynamodb")]
    metric_store: MetricStore,
    /// Port of the Timestream emulator, with --metric-store timestream
    #[arg(long, env = "TIMESTREAM_PORT", default_value_t = Ports::default().timestream)]
    timestream_port: u16,
    /// Devices connect with TLS and a certificate each, with the permissions of the IoT policy
    #[arg(long, env = "SECURE", value_parser = FalseyValueParser::new())]
    secure: bool,
    /// Port of MQTT with TLS, with --secure; only the IoT Core emulator can use the plain port then
    #[arg(long, env = "TLS_PORT", default_value_t = 8883)]
    tls_port: u16,
    /// Number of simulated devices; with 0 no devices are registered
    #[arg(long, env = "DEVICES", default_value_t = 3)]
    devices: u32,
    /// Processes of each function
    #[arg(long, env = "INSTANCES", default_value_t = Options::default().instances)]
    instances: usize,
    /// A setting of the functions that differs from template.yaml (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("the format is NAME=VALUE".to_owned()),
    }
}

impl RunArgs {
    pub(crate) fn options(&self, data: &Path) -> Options {
        Options {
            components: Components::System,
            ports: Some(Ports {
                rest: self.port,
                mqtt: self.mqtt_port,
                endpoint: self.endpoint_port,
                iot_data: self.iot_data_port,
                functions: self.runtime_port,
                timestream: self.timestream_port,
            }),
            rest_address: self.rest_address,
            endpoint_url: self.endpoint_url.clone(),
            broker: self.broker.clone(),
            tls_port: self.secure.then_some(self.tls_port),
            data: Some(data.to_owned()),
            metric_store: self.metric_store,
            instances: self.instances,
            devices: self.devices,
            settings: self.settings.clone(),
            ..Options::default()
        }
    }
}
