//! Returns to the ingest queue what did not reach ingest: dead letters, and messages that an IoT
//! rule could not send, which its error action stored in the archive bucket.
//!
//! A message is deleted at its source only after the queue has accepted it, so an interrupted run
//! is completed by the next one. Two runs at the same time do no harm: a message that is sent twice
//! is stored once, since its identity is its topic and its bytes (docs/adr/0002).

mod dead_letters;
mod queue;
mod undelivered;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use futures::try_join;
use indicatif::ProgressBar;
use serde::Serialize;

use self::queue::Queue;
use crate::options::OutputFormat;
use crate::report::{self, Completion, Report};
use crate::target::Target;

/// Concurrent calls: enough to hide their latency, and far below any limit of AWS.
const CONCURRENCY: usize = 8;

/// What a redrive works on.
struct Redrive {
    /// The ingest queue.
    queue: Queue,
    dead_letters: Queue,
    s3: aws_sdk_s3::Client,
    /// The archive bucket.
    bucket: String,
    /// Counts moved messages.
    progress: ProgressBar,
}

/// The result of a redrive.
#[derive(Debug, Serialize)]
struct RedriveReport {
    /// Dead letters that were moved to the ingest queue.
    dead_letters: usize,
    /// Undelivered messages that were moved to the ingest queue.
    undelivered: usize,
    /// Approximate number of dead letters that another run has received, or one that was killed.
    /// Their visibility timeout ends within a minute.
    in_flight: usize,
    /// What was not moved, with the reason.
    remaining: BTreeMap<String, String>,
}

/// What was moved from one of the two sources.
#[derive(Debug, Default)]
struct MoveReport {
    moved: usize,
    remaining: BTreeMap<String, String>,
}

/// Runs `iot-meter redrive`.
///
/// # Errors
/// When a call fails. What was moved until then stays moved.
pub(crate) async fn run(target: &Target, output: OutputFormat) -> Result<Completion> {
    let redrive = Redrive::new(target).await?;
    let report = redrive.run().await;
    redrive.progress.finish_and_clear();
    let report = report?;
    report::print(&report, output)?;
    Ok(Completion::full_if(report.remaining.is_empty()))
}

impl Redrive {
    async fn new(target: &Target) -> Result<Self> {
        let outputs = target.outputs().await?;
        let output = |name: &str| {
            let value = outputs.get(name).cloned();
            value.with_context(|| format!("the outputs contain no {name}"))
        };
        let sqs = aws_sdk_sqs::Client::new(target.config());
        Ok(Self {
            queue: Queue::new(sqs.clone(), output("IngestQueueUrl")?),
            dead_letters: Queue::new(sqs, output("IngestDeadLetterQueueUrl")?),
            s3: aws_sdk_s3::Client::new(target.config()),
            bucket: output("ArchiveBucketName")?,
            progress: report::spinner(),
        })
    }

    async fn run(&self) -> Result<RedriveReport> {
        let (letters, objects) =
            try_join!(dead_letters::redrive(self), undelivered::redrive(self))?;
        // A refused dead letter is in flight as well, until its visibility timeout ends.
        let in_flight = self.dead_letters.in_flight().await?;
        Ok(RedriveReport {
            dead_letters: letters.moved,
            undelivered: objects.moved,
            in_flight: in_flight.saturating_sub(letters.remaining.len()),
            remaining: letters.remaining.into_iter().chain(objects.remaining).collect(),
        })
    }

    fn report_progress(&self, moved: usize) {
        self.progress.inc(moved as u64);
        self.progress.set_message(format!("{} messages moved", self.progress.position()));
    }
}

impl Report for RedriveReport {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            vec!["SOURCE".to_owned(), "MOVED".to_owned()],
            vec!["dead letters".to_owned(), self.dead_letters.to_string()],
            vec!["undelivered messages".to_owned(), self.undelivered.to_string()],
        ];
        if self.in_flight > 0 {
            rows.push(vec![
                "dead letters of another run".to_owned(),
                "0".to_owned(),
                format!("about {} are hidden for up to a minute", self.in_flight),
            ]);
        }
        let remaining = self.remaining.iter();
        rows.extend(remaining.map(|(name, why)| vec![name.clone(), "0".to_owned(), why.clone()]));
        rows
    }
}
