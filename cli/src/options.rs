//! The command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use meter_domain::id::{DeviceId, InvalidDeviceId};
use meter_domain::time::Timestamp;
use meter_http::range::{InvalidTime, parse_time};
use meter_service::replay::ReplayScope;

const EXIT_CODES: &str = "\
Exit codes:
  0  Done
  1  Failed: a call failed, or the system was not found
  2  Usage error: an unknown command, option or value
  3  Done in part: the output lists what remains";

const REPLAY_EXAMPLES: &str = "\
Examples:
  iot-meter replay --local --start -7d
  iot-meter replay --stack iot-meter --start 2026-03-01T00:00:00Z --stop 2026-04-01T00:00:00Z
  iot-meter replay --start -1d --device dc-meter-001 --restart";

const REDRIVE_EXAMPLES: &str = "\
Examples:
  iot-meter redrive --local
  AWS_PROFILE=production iot-meter redrive --stack iot-meter
  iot-meter redrive --output json | jq .remaining";

const RECOUNT_EXAMPLES: &str = "\
Examples:
  iot-meter recount --local
  iot-meter recount --stack iot-meter --output json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  iot-meter completions bash > ~/.local/share/bash-completion/completions/iot-meter
  source <(iot-meter completions zsh)";

/// Operates an IoT Meter system, on AWS or on this machine
///
/// On AWS, region and credentials are those of the AWS CLI. Every command can be repeated, and two
/// runs at the same time do no harm. RUST_LOG sets the log level (default: warn).
#[derive(Debug, Parser)]
#[command(name = "iot-meter", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Format of the result on standard output
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub(crate) output: OutputFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Aligned columns
    Table,
    /// One JSON object
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Operation(Operation),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// A command that works on a system.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Rebuild metrics and message index from the archive
    ///
    /// Stores what ingest stored, under the same identities: existing data does not change.
    /// Presence, alerts and commands are not affected. A run that was stopped resumes when the same
    /// command is given again.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Return dead letters and undelivered messages to the ingest queue
    ///
    /// An undelivered message is one that an IoT rule could not send to the queue; the rule stored
    /// it in the archive bucket. A message is deleted at its source only after the queue has
    /// accepted it.
    #[command(after_help = REDRIVE_EXAMPLES)]
    Redrive(TargetArgs),
    /// Count devices and alerts again, and correct the counters of the statistics
    #[command(after_help = RECOUNT_EXAMPLES)]
    Recount(TargetArgs),
}

impl Operation {
    pub(crate) fn target(&self) -> &TargetArgs {
        match self {
            Self::Replay(args) => &args.target,
            Self::Redrive(target) | Self::Recount(target) => target,
        }
    }
}

/// The system that a command works on.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Name of the CloudFormation stack on AWS
    #[arg(long, env = "IOT_METER_STACK", value_name = "NAME", default_value = "iot-meter")]
    pub(crate) stack: String,
    /// The system of `make run` instead of one on AWS
    #[arg(long)]
    pub(crate) local: bool,
    /// Data directory of the system of `make run`; with --local
    #[arg(long, env = "DATA", value_name = "FOLDER", default_value = ".local")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Only messages received at this time or later: RFC 3339, or a duration before now (-7d)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = check_time)]
    pub(crate) start: String,
    /// Only messages received before this time
    #[arg(
        long,
        value_name = "TIME",
        default_value = "now()",
        allow_hyphen_values = true,
        value_parser = check_time
    )]
    pub(crate) stop: String,
    /// Only messages of this device
    #[arg(long, value_name = "DEVICE_ID", value_parser = parse_device_id)]
    pub(crate) device: Option<DeviceId>,
    /// Begin again instead of resuming a run that was stopped
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

impl ReplayArgs {
    /// The range by the clock of now. Ends the process with a usage error when it is empty.
    pub(crate) fn scope(&self) -> Result<ReplayScope, InvalidTime> {
        let now = Timestamp::now();
        let (start, stop) = (parse_time(&self.start, now)?, parse_time(&self.stop, now)?);
        if start >= stop {
            let message = format!("--start {start} is not before --stop {stop}");
            Cli::command().error(ErrorKind::ValueValidation, message).exit();
        }
        Ok(ReplayScope { device: self.device.clone(), start, stop })
    }
}

/// Checks a time and keeps its text, which identifies the run: `-7d` resumes the run of `-7d`.
fn check_time(text: &str) -> Result<String, InvalidTime> {
    parse_time(text, Timestamp::now()).map(|_| text.to_owned())
}

fn parse_device_id(text: &str) -> Result<DeviceId, InvalidDeviceId> {
    DeviceId::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_example_of_the_help_parses() {
        for examples in [REPLAY_EXAMPLES, REDRIVE_EXAMPLES, RECOUNT_EXAMPLES, COMPLETIONS_EXAMPLES]
        {
            for line in examples.lines().skip(1) {
                let (_, command) = line.split_once("iot-meter").unwrap();
                let end = command.find(['|', '>', ')']).unwrap_or(command.len());
                let words = std::iter::once("iot-meter").chain(command[..end].split_whitespace());
                Cli::try_parse_from(words).unwrap();
            }
        }
    }

    #[test]
    fn invalid_values_are_usage_errors_that_name_the_option() {
        for (arguments, option) in [
            (&["replay", "--start", "yesterday"][..], "--start"),
            (&["replay", "--start", "-1d", "--device", "a/b"], "--device"),
            (&["replay"], "--start"),
            (&["redrive", "--output", "yaml"], "--output"),
        ] {
            let words = std::iter::once("iot-meter").chain(arguments.iter().copied());
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(option), "{error}");
        }
    }
}
