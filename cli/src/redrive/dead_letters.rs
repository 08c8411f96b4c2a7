//! Dead letters: received, sent to the ingest queue unchanged, deleted.
//!
//! `StartMessageMoveTask` does this inside SQS, but reports the number of moved messages only
//! later, and the local endpoint does not implement it. docs/operations.md contains the command for
//! AWS.

use anyhow::Result;
use futures::future::try_join_all;

use super::{CONCURRENCY, MoveReport, Redrive};

pub(super) async fn redrive(redrive: &Redrive) -> Result<MoveReport> {
    let reports = try_join_all((0..CONCURRENCY).map(|_| move_until_empty(redrive))).await?;
    Ok(reports.into_iter().fold(MoveReport::default(), |mut total, report| {
        total.moved += report.moved;
        total.remaining.extend(report.remaining);
        total
    }))
}

async fn move_until_empty(redrive: &Redrive) -> Result<MoveReport> {
    let mut total = MoveReport::default();
    loop {
        let letters = redrive.dead_letters.receive().await?;
        if letters.is_empty() {
            return Ok(total);
        }
        let bodies: Vec<_> =
            letters.iter().map(|letter| letter.body.as_deref().unwrap_or_default()).collect();
        let results = redrive.queue.send(&bodies).await?;
        let mut receipts = Vec::with_capacity(letters.len());
        for (letter, refusal) in letters.iter().zip(results) {
            match refusal {
                None => receipts.extend(letter.receipt_handle.as_deref()),
                Some(reason) => {
                    let id = letter.message_id.as_deref().unwrap_or_default();
                    total.remaining.insert(format!("dead letter {id}"), reason);
                }
            }
        }
        redrive.dead_letters.delete(&receipts).await?;
        total.moved += receipts.len();
        redrive.report_progress(receipts.len());
    }
}
