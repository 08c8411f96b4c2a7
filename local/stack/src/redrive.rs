//! Brings back what did not reach ingest: dead letters, and what an IoT rule could not deliver, which its
//! error action has left in the archive bucket.
//!
//! Both go through the ingest queue again. Nothing is deleted where it lies before the queue has it, so a run
//! that was cut short is made whole by the next one, and two at once do no harm: what is sent twice is one
//! message to ingest, since its identity is its topic and its bytes (docs/adr/0002).

mod account;
mod dead_letters;
mod queue;
mod undelivered;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Error, Result};
use futures::try_join;

pub use self::account::Account;
pub(crate) use self::account::read;

/// How many calls are under way at once: enough to hide their latency, and far below any limit of AWS.
const CONCURRENCY: usize = 8;

/// What a redrive did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Redriven {
    /// Dead letters that are in the ingest queue now.
    pub dead_letters: usize,
    /// Objects of error actions that are in the ingest queue now.
    pub undelivered: usize,
    /// What is still where it was, and why.
    pub left: BTreeMap<String, String>,
    /// About how many dead letters another run has in hand, or one that was cut short had. They can be moved
    /// again after a minute.
    pub in_hand: usize,
}

/// Moves every dead letter, and sends every object of an error action, to the ingest queue.
///
/// # Errors
/// When a call fails. What was moved until then stays moved.
pub async fn redrive(account: &Account) -> Result<Redriven> {
    let (letters, objects) =
        try_join!(dead_letters::redrive(account), undelivered::redrive(account))?;
    let left: BTreeMap<_, _> = letters.left.into_iter().chain(objects.left).collect();
    // What the queue refused is hidden, too.
    let refused = left.keys().filter(|name| name.starts_with(dead_letters::NAME)).count();
    Ok(Redriven {
        dead_letters: letters.moved,
        undelivered: objects.moved,
        left,
        in_hand: account.dead_letters.in_flight().await?.saturating_sub(refused),
    })
}

/// One of the two halves.
#[derive(Debug, Default)]
struct Moved {
    moved: usize,
    left: BTreeMap<String, String>,
}

impl fmt::Display for Redriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dead letters   {:>7} moved to the ingest queue", self.dead_letters)?;
        write!(f, "error objects  {:>7} sent to the ingest queue", self.undelivered)?;
        if self.in_hand > 0 {
            let n = self.in_hand;
            write!(
                f,
                "\nabout {n} more dead letters are in the hands of another run; try again in a minute"
            )?;
        }
        for (what, why) in &self.left {
            write!(f, "\nleft where it is: {what}: {why}")?;
        }
        Ok(())
    }
}

/// A call that failed, with its causes.
fn failed<E: std::error::Error + Send + Sync + 'static>(operation: &str, error: E) -> Error {
    Error::new(error).context(format!("{operation} failed"))
}
