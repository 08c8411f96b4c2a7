//! Dead letters: received, sent to the ingest queue as they are, deleted.
//!
//! `StartMessageMoveTask` would do this inside of SQS; it does not say how many it moved until later, and the local
//! endpoint has no such call. docs/operations.md has the line for AWS.

use anyhow::Result;
use futures::future::try_join_all;

use super::target::RedriveTarget;
use super::{CONCURRENCY, MoveReport};

/// How a dead letter is called in a report, before its message id.
pub(super) const NAME: &str = "dead letter";

pub(super) async fn redrive(target: &RedriveTarget) -> Result<MoveReport> {
    let parts = try_join_all((0..CONCURRENCY).map(|_| move_until_empty(target))).await?;
    Ok(parts.into_iter().fold(MoveReport::default(), |mut all, part| {
        all.moved += part.moved;
        all.remaining.extend(part.remaining);
        all
    }))
}

async fn move_until_empty(target: &RedriveTarget) -> Result<MoveReport> {
    let mut all = MoveReport::default();
    loop {
        let letters = target.dead_letters.receive().await?;
        if letters.is_empty() {
            return Ok(all);
        }
        let bodies: Vec<_> =
            letters.iter().map(|letter| letter.body.as_deref().unwrap_or_default()).collect();
        let results = target.queue.send(&bodies).await?;
        let mut receipts = Vec::with_capacity(letters.len());
        for (letter, verdict) in letters.iter().zip(results) {
            match verdict {
                None => receipts.extend(letter.receipt_handle.as_deref()),
                Some(reason) => {
                    let id = letter.message_id.as_deref().unwrap_or_default();
                    all.remaining.insert(format!("{NAME} {id}"), reason);
                }
            }
        }
        target.dead_letters.delete(&receipts).await?;
        all.moved += receipts.len();
    }
}
