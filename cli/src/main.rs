//! `iot-meter`: see `iot-meter --help`, docs/operations.md and docs/archive.md.

mod lambda;
mod local;
mod options;
mod recount;
mod redrive;
mod replay;
mod report;
mod target;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

use self::options::{Cli, Command, Operation};
use self::report::Completion;
use self::target::Target;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logging();
    match run(cli).await {
        Ok(Completion::Full) => ExitCode::SUCCESS,
        Ok(Completion::Partial) => ExitCode::from(3),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<Completion> {
    let operation = match cli.command {
        Command::Operation(operation) => operation,
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "iot-meter", &mut std::io::stdout());
            return Ok(Completion::Full);
        }
    };
    let target = Target::open(operation.target()).await?;
    let result = match &operation {
        Operation::Replay(args) => replay::run(&target, args, cli.output).await,
        Operation::Redrive(_) => redrive::run(&target, cli.output).await,
        Operation::Recount(_) => recount::run(&target, cli.output).await,
    };
    result.with_context(|| target.hint())
}

fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
