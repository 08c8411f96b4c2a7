//! `devstack run` starts the whole system and stays until Ctrl-C, `devstack reset` removes its data, `devstack redrive` brings
//! back what did not reach ingest, `devstack replay` builds metrics again from the archive, and `devstack exec` starts a second
//! system, of no consequence, for a command.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use devstack::{Components, DevStack, MetricStore, Notifications, Options, Ports, RedriveTarget};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// The whole system on one machine
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where tables, objects, queued messages and logs are kept
    #[arg(long, global = true, env = "DATA", value_name = "FOLDER", default_value = ".local")]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, and stop it in order at Ctrl-C
    Run(RunArgs),
    /// Remove all data and logs
    Reset,
    /// Bring dead letters, and what IoT rules could not deliver, back to the ingest queue
    Redrive(RedriveArgs),
    /// Build metrics and index again from the archive (docs/archive.md)
    Replay(ReplayArgs),
    /// Print what people are told of alerts, from now on, until Ctrl-C
    Notifications(NotificationsArgs),
    /// Run a command against a system of its own: free ports, a temporary folder, no devices. The command finds
    /// REST_URL, MQTT (host:port), the functions' settings, and the project's programs in PATH
    Exec(ExecArgs),
}

#[derive(Args)]
struct ExecArgs {
    /// Where measurements are kept
    #[arg(long, env = "METRIC_STORE", default_value = "dynamodb")]
    metric_store: MetricStore,
    /// Processes of each function
    #[arg(long, env = "INSTANCES", default_value_t = Options::default().instances)]
    instances: usize,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct RedriveArgs {
    /// The outputs of a system elsewhere, as JSON; the environment says where and who, as for the AWS CLI. Without
    /// it: the system of `devstack run`
    #[arg(long, value_name = "FILE")]
    outputs: Option<PathBuf>,
    /// Port of the AWS endpoint of `devstack run`
    #[arg(long, env = "ENDPOINT_PORT", default_value_t = Ports::default().endpoint)]
    endpoint_port: u16,
}

#[derive(Args)]
struct ReplayArgs {
    /// The settings of a system elsewhere, as JSON; the environment says where and who, as for the AWS CLI. Without
    /// it: the system of `devstack run`
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// What to replay: see `replay --help`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
struct NotificationsArgs {
    /// Port of the AWS endpoint of `devstack run`
    #[arg(long, env = "ENDPOINT_PORT", default_value_t = Ports::default().endpoint)]
    endpoint_port: u16,
}

#[derive(Args)]
struct RunArgs {
    /// Port of the REST API
    #[arg(long, env = "PORT", default_value_t = Ports::default().rest)]
    port: u16,
    /// Port of the MQTT broker
    #[arg(long, env = "MQTT_PORT", default_value_t = Ports::default().mqtt)]
    mqtt_port: u16,
    /// Port of the AWS endpoint
    #[arg(long, env = "ENDPOINT_PORT", default_value_t = Ports::default().endpoint)]
    endpoint_port: u16,
    /// An AWS endpoint that runs already (S3, DynamoDB, SQS, SNS, CloudFormation), instead of one of this system's own
    #[arg(long, env = "ENDPOINT_URL", value_name = "URL")]
    endpoint_url: Option<String>,
    /// An MQTT broker that runs already, instead of one of this system's own
    #[arg(long, env = "BROKER", value_name = "HOST:PORT", conflicts_with = "secure")]
    broker: Option<String>,
    /// Address that the REST API listens on: another only inside of a container
    #[arg(long, env = "REST_ADDRESS", value_name = "IP", default_value_t = Options::default().rest_address)]
    rest_address: IpAddr,
    /// Port of the edge's iot-data API
    #[arg(long, env = "IOT_DATA_PORT", default_value_t = Ports::default().iot_data)]
    iot_data_port: u16,
    /// Port where ingest and watchdog are invoked
    #[arg(long, env = "RUNTIME_PORT", default_value_t = Ports::default().functions)]
    runtime_port: u16,
    /// Where measurements are kept
    #[arg(long, env = "METRIC_STORE", default_value = "dynamodb")]
    metric_store: MetricStore,
    /// Port of Timestream, if measurements are kept there
    #[arg(long, env = "TIMESTREAM_PORT", default_value_t = Ports::default().timestream)]
    timestream_port: u16,
    /// Devices connect with TLS, with certificates of their own, and may do what the IoT policy allows
    #[arg(long, env = "SECURE", value_parser = FalseyValueParser::new())]
    secure: bool,
    /// The port for that; the port of the MQTT broker is the edge's alone then
    #[arg(long, env = "TLS_PORT", default_value_t = 8883)]
    tls_port: u16,
    /// How many devices are simulated; with 0 the sample devices are not registered either
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
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

impl RunArgs {
    fn options(&self, data: &Path) -> Options {
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

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logging();
    let result = match cli.command {
        Command::Run(run) => run_until_signal(run.options(&cli.data)).await,
        Command::Reset => reset(&cli.data),
        Command::Redrive(args) => redrive(&cli.data, args).await,
        Command::Replay(args) => match replay(&cli.data, args).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Notifications(args) => print_notifications(&cli.data, args.endpoint_port).await,
        Command::Exec(exec) => match run_command(exec).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Progress is for a person: the bare lines.
fn init_logging() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("devstack=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
}

fn reset(data: &Path) -> Result<()> {
    if !data.exists() {
        info!("nothing to remove: there is no {}", data.display());
        return Ok(());
    }
    devstack::remove_data(data)?;
    info!("removed {}", data.display());
    Ok(())
}

async fn redrive(data: &Path, args: RedriveArgs) -> Result<()> {
    let (target, hint) = match args.outputs {
        Some(outputs) => {
            let hint = "what is moved stays moved; try again once this works";
            (RedriveTarget::from_environment(&outputs).await?, hint)
        }
        None => {
            (RedriveTarget::local(data, args.endpoint_port)?, "is `make run` up, on that port?")
        }
    };
    let redriven = devstack::redrive(&target).await.context(hint)?;
    println!("{redriven}");
    ensure!(redriven.remaining.is_empty(), "{} are left where they are", redriven.remaining.len());
    Ok(())
}

/// With the settings of the functions in its environment, as they have them.
async fn replay(data: &Path, args: ReplayArgs) -> Result<ExitCode> {
    let path = args.settings.unwrap_or_else(|| data.join(devstack::SETTINGS_FILE));
    let settings = devstack::read_settings(&path)?;
    let program = Options::default().binaries.join("replay");
    let mut command = tokio::process::Command::new(&program);
    command.args(args.arguments).envs(settings);
    let status = command.status().await.with_context(|| {
        format!("cannot run {}: `cargo build --workspace --bins` builds it", program.display())
    })?;
    Ok(exit_code(status))
}

async fn print_notifications(data: &Path, endpoint_port: u16) -> Result<()> {
    let mut stop = StopSignals::listen()?;
    let subscribed = Notifications::subscribe(data, endpoint_port).await;
    let notifications = subscribed.context("is `make run` up, on that port?")?;
    info!("notices of alerts follow; Ctrl-C ends this");
    let outcome = loop {
        let received = tokio::select! {
            received = notifications.next() => received,
            () = stop.next() => break Ok(()),
        };
        match received {
            Ok(notices) => notices.iter().for_each(|notice| println!("{notice}\n")),
            Err(error) => break Err(error),
        }
    };
    notifications.unsubscribe().await;
    outcome
}

async fn run_until_signal(options: Options) -> Result<()> {
    let mut stop = StopSignals::listen()?;
    loop {
        let begin = Instant::now();
        let stack = tokio::select! {
            stack = DevStack::start(options.clone()) => stack?,
            // Dropped half started: what runs already is killed. There is nothing yet that could be lost.
            () = stop.next() => return Ok(()),
        };
        println!("{}", startup_message(&stack, begin.elapsed().as_secs_f64(), &options));
        let broken = tokio::select! {
            name = stack.wait_for_failure() => Some(name.to_owned()),
            () = stop.next() => None,
        };
        let begin = Instant::now();
        info!(
            "stopping; Ctrl-C again kills everything at once, and what is not on disk yet is lost"
        );
        tokio::select! {
            () = stack.stop() => {}
            () = stop.next() => {
                warn!("killed");
                return Ok(());
            }
        }
        info!("stopped in {:.1} s", begin.elapsed().as_secs_f64());
        match broken {
            None => return Ok(()),
            Some(name) => warn!(
                "{name} has died, so everything starts again; tables and queues are as they were at the last clean stop"
            ),
        }
    }
}

async fn run_command(exec: ExecArgs) -> Result<ExitCode> {
    let mut stop = StopSignals::listen()?;
    let options = Options {
        metric_store: exec.metric_store,
        instances: exec.instances,
        ..Options::default()
    };
    let binaries = options.binaries.clone();
    let stack = DevStack::start(options).await?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([binaries].into_iter().chain(std::env::split_paths(&path)))?;
    let (program, arguments) = exec.command.split_first().context("no command is given")?;
    let mut command = tokio::process::Command::new(program)
        .args(arguments)
        .envs(stack.settings())
        .env("REST_URL", stack.rest_url())
        .env("MQTT", stack.broker())
        .env("PATH", path)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let status = tokio::select! {
        status = command.wait() => status?,
        () = stop.next() => return Ok(ExitCode::FAILURE),
    };
    // Its data is of no consequence: it need not stop in order.
    drop(stack);
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Ctrl-C and SIGTERM.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn startup_message(stack: &DevStack, seconds: f64, options: &Options) -> String {
    let Options { devices, metric_store, tls_port, .. } = options;
    let rest = stack.rest_url();
    let timestream = match metric_store {
        MetricStore::Dynamodb => String::new(),
        MetricStore::Timestream => format!("  Timestream    {}\n", stack.timestream_url()),
    };
    let (mqtt, connection) = match tls_port {
        Some(port) => {
            let id = "-i dc-meter-001";
            let folder = stack.data().join("identities/dc-meter-001");
            let folder = folder.display();
            let files = format!(
                "--cafile {folder}/ca.pem --cert {folder}/certificate.pem --key {folder}/private.key"
            );
            (
                format!("127.0.0.1:{port} with TLS (certificates: {})", folder),
                format!("-p {port} {id} {files}"),
            )
        }
        None => {
            let broker = stack.broker();
            let connection = match broker.rsplit_once(':') {
                Some(("127.0.0.1", port)) => format!("-p {port}"),
                Some((host, port)) => format!("-h {host} -p {port}"),
                None => format!("-h {broker}"),
            };
            (broker, connection)
        }
    };
    format!(
        r#"
IoT Meter runs; it took {seconds:.1} s to start.

  REST API      {rest}
  MQTT          {mqtt}
  AWS endpoint  {endpoint}  (bucket {bucket})
{timestream}  iot-data      {iot_data}
  functions     {functions}
  devices       {devices} simulated
  data          {data}
  logs          {logs}

Publish a message and read it back:

  mosquitto_pub {connection} -q 1 -t iot/dc-meter-001/telemetry -m '{{"device_id":"dc-meter-001","temperature":23.5,"unit":"celsius"}}'
  curl -s '{rest}/api/devices/dc-meter-001/metrics?metric=temperature'

Ctrl-C stops everything and keeps the data, `make reset` removes it.
"#,
        endpoint = stack.endpoint_url(),
        bucket = stack.outputs().get("ArchiveBucketName").map_or("", String::as_str),
        timestream = timestream,
        iot_data = stack.iot_data_url(),
        functions = stack.functions_url(),
        data = stack.data().display(),
        logs = stack.logs().display(),
    )
}
