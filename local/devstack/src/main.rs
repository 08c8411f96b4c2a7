//! `devstack`: see `devstack --help`.

mod arguments;
mod banner;
mod stop_signals;

use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use devstack::{DevStack, EXAMPLE_DEVICE, Notifications, Options};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use self::arguments::{Cli, Command, ExecArgs, WatchNotificationsArgs};
use self::stop_signals::StopSignals;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logging();
    let result = match cli.command {
        Command::Run(run) => run_until_signal(run.options(&cli.data)).await,
        Command::Reset => reset(&cli.data),
        Command::WatchNotifications(args) => watch_notifications(&cli.data, &args).await,
        Command::Exec(exec) => run_command(exec).await,
    };
    result.unwrap_or_else(|error| {
        error!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Progress is for a terminal: lines without time and level.
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

fn reset(data: &Path) -> Result<ExitCode> {
    if data.exists() {
        devstack::remove_data(data)?;
        info!("removed {}", data.display());
    } else {
        info!("nothing to remove: {} does not exist", data.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// How long `watch-notifications` waits before it prints how to raise an alert.
const QUIET_PERIOD: Duration = Duration::from_secs(10);

async fn watch_notifications(data: &Path, args: &WatchNotificationsArgs) -> Result<ExitCode> {
    let mut stop = StopSignals::listen()?;
    let subscribed = Notifications::subscribe(data, args.endpoint_port).await;
    let notifications =
        subscribed.context("cannot subscribe: is `make run` running, on that ENDPOINT_PORT?")?;
    info!("notifications are printed as they are sent; Ctrl-C ends this");
    let begin = Instant::now();
    let mut hint_due = true;
    let result = loop {
        let received = tokio::select! {
            received = notifications.next() => received,
            () = stop.next() => break Ok(ExitCode::SUCCESS),
        };
        match received {
            Ok(texts) => {
                hint_due &= texts.is_empty();
                texts.iter().for_each(|text| println!("{text}\n"));
            }
            Err(error) => break Err(error),
        }
        if hint_due && begin.elapsed() >= QUIET_PERIOD {
            hint_due = false;
            info!("{}", alert_commands(data, args));
        }
    };
    notifications.unsubscribe().await;
    result
}

/// The commands that raise an alert and with it a notification.
fn alert_commands(data: &Path, args: &WatchNotificationsArgs) -> String {
    let WatchNotificationsArgs { port, mqtt_port, tls_port, .. } = args;
    let broker = format!("127.0.0.1:{mqtt_port}");
    let connection = banner::connection(&broker, args.secure.then_some(*tls_port), data);
    format!(
        r#"No notification so far. To raise an alert, create a rule; it takes effect within a minute:

  curl -s http://127.0.0.1:{port}/api/alert-rules -H 'content-type: application/json' -d '{{"name":"Overheated","metric":"temperature","operator":">","threshold":90}}'

Then publish a value above the threshold:

  mosquitto_pub {connection} -q 1 -t iot/{EXAMPLE_DEVICE}/telemetry -m '{{"device_id":"{EXAMPLE_DEVICE}","temperature":95,"unit":"celsius"}}'
"#
    )
}

async fn run_until_signal(options: Options) -> Result<ExitCode> {
    let mut stop = StopSignals::listen()?;
    loop {
        let begin = Instant::now();
        let devstack = tokio::select! {
            devstack = DevStack::start(options.clone()) => devstack?,
            // Dropping a half-started devstack kills its children. No data can be lost yet.
            () = stop.next() => return Ok(ExitCode::SUCCESS),
        };
        println!("{}", banner::text(&devstack, begin.elapsed(), &options));
        let failed_child = tokio::select! {
            name = devstack.wait_for_failure() => Some(name.to_owned()),
            () = stop.next() => None,
        };
        let begin = Instant::now();
        info!("stopping; a second Ctrl-C kills everything, and data not yet on disk is lost");
        tokio::select! {
            () = devstack.stop() => {}
            () = stop.next() => {
                warn!("killed");
                return Ok(ExitCode::SUCCESS);
            }
        }
        info!("stopped in {:.1} s", begin.elapsed().as_secs_f64());
        let Some(name) = failed_child else { return Ok(ExitCode::SUCCESS) };
        warn!(
            "{name} has ended, so the system restarts; tables and queues are those of the last clean stop"
        );
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
    let devstack = DevStack::start(options).await?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([binaries].into_iter().chain(std::env::split_paths(&path)))?;
    let (program, arguments) = exec.command.split_first().context("no command is given")?;
    let mut command = tokio::process::Command::new(program)
        .args(arguments)
        .envs(devstack.settings())
        .env("REST_URL", devstack.rest_url())
        .env("MQTT", devstack.broker())
        .env("PATH", path)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let status = tokio::select! {
        status = command.wait() => status?,
        () = stop.next() => return Ok(ExitCode::FAILURE),
    };
    drop(devstack); // its data is temporary: no orderly stop
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
