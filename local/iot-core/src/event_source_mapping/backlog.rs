//! Records that wait for an invocation.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::record::Record;

/// The maximum size of an event in bytes. Lambda accepts 6 MB.
const MAX_EVENT_BYTES: usize = 5_000_000;

/// A queue between the receiving and the invoking tasks.
///
/// A free invoker takes everything that waits: a single record at low rates, hundreds at high
/// rates.
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

    /// Waits for a record; returns the oldest records, at most `max_records`.
    pub(super) async fn take(&self, max_records: usize) -> Vec<Record> {
        loop {
            // A notification wakes one waiting task, or is stored if none waits. So no record is
            // missed that arrives between the check and the wait.
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

    /// Returns all records without waiting.
    pub(super) fn drain(&self) -> Vec<Record> {
        self.records().drain(..).collect()
    }

    fn records(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many of the first records fit into one event, at least one.
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
    async fn all_records_are_taken_up_to_the_limit() {
        let backlog = Backlog::default();
        backlog.add(records(1, 100));
        assert_eq!(backlog.take(500).await.len(), 1);
        backlog.add(records(700, 100));
        assert_eq!(backlog.take(500).await.len(), 500);
        assert_eq!(backlog.take(500).await.len(), 200);
    }

    #[tokio::test]
    async fn event_is_limited_in_bytes() {
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
    async fn records_are_taken_in_order_of_arrival() {
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
    async fn each_waiting_task_takes_a_record() {
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
