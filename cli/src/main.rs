//! `iot-meter`: see `iot-meter --help`, docs/operations.md and docs/archive.md.

mod lambda;
mod local;
mod options;
mod recount;
mod redrive;
mod replay;
mod report;
mod target;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

use self::options::{Cli, Command};
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
    let output = cli.output;
    match cli.command {
        Command::Replay(args) => {
            let scope = args.scope()?;
            replay::run(&Target::open(&args.target).await?, &args, &scope, output).await
        }
        Command::Redrive { target } => redrive::run(&Target::open(&target).await?, output).await,
        Command::Recount { target } => recount::run(&Target::open(&target).await?, output).await,
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "iot-meter", &mut std::io::stdout());
            Ok(Completion::Full)
        }
    }
}

fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
}
