//! Records that wait for an invocation.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::record::Record;

/// The most bytes of an event. Lambda takes 6 MB.
const MAX_EVENT_BYTES: usize = 5_000_000;

/// A queue between those who receive and those who invoke.
///
/// Whoever is free takes all that is there: a single record at once, so that nothing waits in quiet
/// times, and hundreds together when they come faster than invocations end.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    records: Mutex<VecDeque<Record>>,
    arrived: Notify,
}

impl Backlog {
    pub(super) fn add(&self, records: impl IntoIterator<Item = Record>) {
        self.records().extend(records);
        self.arrived.notify_one();
    }

    /// The oldest records, `most` of them at most, as soon as there is one.
    pub(super) async fn take(&self, max_records: usize) -> Vec<Record> {
        loop {
            // Each notification wakes one who waits, and one is kept when nobody does; so a record that
            // is added between the look and the wait is not missed.
            let (taken, more) = {
                let mut records = self.records();
                let taken = batch_len(&records, max_records);
                let taken: Vec<_> = records.drain(..taken).collect();
                (taken, !records.is_empty())
            };
            if more {
                self.arrived.notify_one();
            }
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    /// Everything, without waiting.
    pub(super) fn drain(&self) -> Vec<Record> {
        self.records().drain(..).collect()
    }

    fn records(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the first records make an event; at least one, if there is one.
fn batch_len(records: &VecDeque<Record>, max_records: usize) -> usize {
    let mut bytes = 0;
    records
        .iter()
        .take(max_records)
        .enumerate()
        .take_while(|(index, record)| {
            bytes += record.bytes();
            *index == 0 || bytes <= MAX_EVENT_BYTES
        })
        .count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::record::record, *};

    fn records(count: usize, bytes: usize) -> Vec<Record> {
        (0..count).map(|index| record(&index.to_string(), bytes)).collect()
    }

    #[tokio::test]
    async fn all_that_is_there_is_taken_at_once_up_to_the_limit() {
        let backlog = Backlog::default();
        backlog.add(records(1, 100));
        assert_eq!(backlog.take(500).await.len(), 1);
        backlog.add(records(700, 100));
        assert_eq!(backlog.take(500).await.len(), 500);
        assert_eq!(backlog.take(500).await.len(), 200);
    }

    #[tokio::test]
    async fn an_event_stays_within_what_lambda_takes() {
        let backlog = Backlog::default();
        backlog.add(records(60, 180_000));
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let taken = backlog.take(500).await;
            assert!(taken.iter().map(Record::bytes).sum::<usize>() <= MAX_EVENT_BYTES);
            sizes.push(taken.len());
        }
        assert_eq!(sizes, [27, 27, 6]);
    }

    #[tokio::test]
    async fn records_are_taken_in_the_order_of_arrival() {
        let backlog = Backlog::default();
        backlog.add([record("1", 10), record("2", 10)]);
        backlog.add([record("3", 10)]);
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.extend(backlog.take(2).await.into_iter().map(|record| record.message_id));
        }
        assert_eq!(ids, ["1", "2", "3"]);
    }

    #[tokio::test]
    async fn everyone_who_waits_gets_something_as_long_as_there_is_something() {
        let backlog = Arc::new(Backlog::default());
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let backlog = Arc::clone(&backlog);
                tokio::spawn(async move { backlog.take(1).await.len() })
            })
            .collect();
        tokio::task::yield_now().await;
        backlog.add(records(3, 10));
        for taker in takers {
            assert_eq!(taker.await.unwrap(), 1);
        }
    }
}
