//! Brings back what did not reach ingest: dead letters, and what an IoT rule could not deliver, which its
//! error action has left in the archive bucket.
//!
//! Both go through the ingest queue again. Nothing is deleted where it lies before the queue has it, so a run
//! that was cut short is made whole by the next one, and two at once do no harm: what is sent twice is one
//! message to ingest, since its identity is its topic and its bytes (docs/adr/0002).

mod dead_letters;
mod queue;
mod target;
mod undelivered;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Error, Result};
use futures::try_join;

pub use self::target::RedriveTarget;
pub(crate) use self::target::read_outputs;

/// How many calls are under way at once: enough to hide their latency, and far below any limit of AWS.
const CONCURRENCY: usize = 8;

/// What a redrive did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RedriveReport {
    /// Dead letters that are in the ingest queue now.
    pub dead_letters: usize,
    /// Objects of error actions that are in the ingest queue now.
    pub undelivered: usize,
    /// What is still where it was, and why.
    pub remaining: BTreeMap<String, String>,
    /// About how many dead letters another run has in hand, or one that was cut short had. They can be moved
    /// again after a minute.
    pub in_flight: usize,
}

/// Moves every dead letter, and sends every object of an error action, to the ingest queue.
///
/// # Errors
/// When a call fails. What was moved until then stays moved.
pub async fn redrive(target: &RedriveTarget) -> Result<RedriveReport> {
    let (letters, objects) =
        try_join!(dead_letters::redrive(target), undelivered::redrive(target))?;
    let remaining: BTreeMap<_, _> =
        letters.remaining.into_iter().chain(objects.remaining).collect();
    // What the queue refused is hidden, too.
    let refused = remaining.keys().filter(|name| name.starts_with(dead_letters::NAME)).count();
    Ok(RedriveReport {
        dead_letters: letters.moved,
        undelivered: objects.moved,
        remaining,
        in_flight: target.dead_letters.in_flight().await?.saturating_sub(refused),
    })
}

/// One of the two halves.
#[derive(Debug, Default)]
struct MoveReport {
    moved: usize,
    remaining: BTreeMap<String, String>,
}

impl fmt::Display for RedriveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dead letters   {:>7} moved to the ingest queue", self.dead_letters)?;
        write!(f, "error objects  {:>7} sent to the ingest queue", self.undelivered)?;
        if self.in_flight > 0 {
            let n = self.in_flight;
            write!(
                f,
                "\nabout {n} more dead letters are in the hands of another run; try again in a minute"
            )?;
        }
        for (what, why) in &self.remaining {
            write!(f, "\nleft where it is: {what}: {why}")?;
        }
        Ok(())
    }
}

/// A call that failed, with its causes.
fn call_error<E: std::error::Error + Send + Sync + 'static>(operation: &str, error: E) -> Error {
    Error::new(error).context(format!("{operation} failed"))
}
