//! Rebuilds metrics and message index from the archive (docs/archive.md).

mod checkpoint;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use meter_aws::Clients;
use meter_domain::time::Timestamp;
use meter_runtime::settings::{self, Ingest, Presence};
use meter_runtime::{AwsStores, StoreSettings};
use meter_service::replay::{ArchiveCursor, Replay, ReplayCounts, ReplayProgress, ReplayScope};
use meter_store::{Stores, retry};

use self::checkpoint::Checkpoint;
use crate::options::{OutputFormat, ReplayArgs};
use crate::report::{self, Completion, Report};
use crate::target::Target;

/// How often progress is shown and stored. A run that resumes repeats at most this much work.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);

/// Runs `iot-meter replay`.
///
/// # Errors
/// When a call fails. The same command resumes at the last checkpoint.
pub(crate) async fn run(
    target: &Target,
    args: &ReplayArgs,
    output: OutputFormat,
) -> Result<Completion> {
    let scope = args.scope()?;
    let replay = aws_replay(target).await?;
    let checkpoint = Checkpoint::new(replay.stores.archive(), args);
    let stored = if args.restart { None } else { checkpoint.read().await? };
    if let Some(ReplayProgress { counts, .. }) = &stored {
        eprintln!("resuming a run that was stopped (--restart begins again): {counts}");
    }
    let mut progress = stored.unwrap_or_default();
    let spinner = report::spinner();
    let completed = tokio::select! {
        result = run_to_end(&replay, &scope, &checkpoint, &mut progress, &spinner) => {
            result.context("the replay stopped; the same command resumes it")?;
            true
        }
        _ = tokio::signal::ctrl_c() => false,
    };
    spinner.finish_and_clear();
    if !completed {
        eprintln!("stopped; the same command resumes the replay");
    }
    report::print(&progress.counts, output)?;
    Ok(Completion::full_if(completed && progress.counts.invalid == 0))
}

async fn run_to_end(
    replay: &Replay<AwsStores>,
    scope: &ReplayScope,
    checkpoint: &Checkpoint<'_>,
    progress: &mut ReplayProgress,
    spinner: &ProgressBar,
) -> Result<()> {
    let mut stored_at = Instant::now();
    while progress.cursor != ArchiveCursor::Done {
        *progress = step_with_retry(replay, scope, progress).await?;
        if stored_at.elapsed() >= CHECKPOINT_INTERVAL {
            stored_at = Instant::now();
            checkpoint.write(progress).await?;
        }
        if let ArchiveCursor::Batches(key) | ArchiveCursor::Messages(key) = &progress.cursor {
            spinner.set_message(format!("{key}: {}", progress.counts));
        }
    }
    checkpoint.remove().await
}

/// Repeats a failed step, with longer pauses each time.
async fn step_with_retry(
    replay: &Replay<AwsStores>,
    scope: &ReplayScope,
    progress: &ReplayProgress,
) -> Result<ReplayProgress> {
    let mut attempt = 0;
    loop {
        match replay.step(scope, progress, Timestamp::now()).await {
            Err(error) if attempt < retry::MAX_ATTEMPTS => {
                tracing::warn!(%error, attempt, "replay step failed; retrying");
                retry::wait(attempt).await;
                attempt += 1;
            }
            result => return Ok(result?),
        }
    }
}

/// A replay with the settings of the ingest function, so that both store the same.
async fn aws_replay(target: &Target) -> Result<Replay<AwsStores>> {
    let variables = target.ingest_settings().await?;
    let lookup = |name: &str| variables.get(name).cloned();
    let (stores, ingest, presence): (StoreSettings, Ingest, Presence) =
        settings::load_from(&lookup)?;
    let clients = Clients::from_environment().await;
    Ok(Replay {
        stores: AwsStores::new(&clients, &stores),
        policy: ingest.device_policy(&presence, &stores.metrics, &stores.alerting),
        ttl_days: ingest.message_ttl_days(),
    })
}

impl Report for ReplayCounts {
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |(what, count): (&str, u64)| vec![what.to_owned(), count.to_string()];
        let always = [
            ("objects read", self.objects),
            ("messages stored", self.messages),
            ("points stored", self.points),
        ];
        let exceptions = [
            ("of these outside the retention of the metric store", self.outside_retention),
            ("messages older than MESSAGE_TTL_DAYS", self.expired),
            ("messages of purged devices", self.purged),
            ("objects or lines that could not be read", self.invalid),
        ];
        let heading = vec!["REPLAYED".to_owned(), "COUNT".to_owned()];
        let exceptions = exceptions.into_iter().filter(|(_, count)| *count > 0);
        std::iter::once(heading).chain(always.into_iter().chain(exceptions).map(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_lists_exceptions_only_when_there_are_any() {
        let counts = ReplayCounts { objects: 1, messages: 2, points: 3, ..ReplayCounts::default() };
        assert_eq!(counts.rows().len(), 4);
        let rows = ReplayCounts { invalid: 5, ..counts }.rows();
        assert_eq!(rows[4], ["objects or lines that could not be read", "5"]);
    }
}
