//! Saving many states, each under the condition that its version is the one that was read.
//!
//! | writes | request |
//! |---|---|
//! | one state with an unchanged connection | PutItem |
//! | states with unchanged connections | BatchExecuteStatement, the only batch with conditions |
//! | states with changed connections | TransactWriteItems, with the counts by connection |
//!
//! In each of them a state fails alone.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::Put;
use futures::future::join;
use futures::{StreamExt, stream};
use meter_domain::id::Shard;
use meter_store::{StateWrite, WriteError};

use super::States;
use super::state_item::{is_written, put, to_statement};
use crate::dynamodb::batch::CONCURRENCY;
use crate::dynamodb::conditional::{self, ConditionalWriteError};
use crate::dynamodb::item::{Item, size};
use crate::dynamodb::transaction::{self, TransactAction, TransactionError};
use crate::dynamodb::{counters, partiql_batch};

/// States in one transaction, which share one write of the counts. When a whole fleet returns after
/// an outage, that is a twentieth of the writes of the counts.
const MAX_COUNTED_WRITES: usize = 20;

/// Bytes of items in one transaction, below the 4 MB that DynamoDB accepts.
const MAX_COUNTED_BYTES: usize = 3 * 1024 * 1024;

/// One write of a call.
struct PlannedWrite {
    /// Its index in the call.
    index: usize,
    shard: Shard,
    read_version: u64,
    put: Put,
    /// Changes of the counts of devices by connection.
    count_changes: Vec<(&'static str, i64)>,
}

impl PlannedWrite {
    fn finish(&self, result: Result<(), ConditionalWriteError>) -> IndexedResult {
        let result = match result {
            Ok(()) => Ok(()),
            Err(ConditionalWriteError::ConditionFailed(stored)) => self.resolve(stored.as_ref()),
            Err(ConditionalWriteError::Store(error)) => Err(error.into()),
        };
        (self.index, result)
    }

    /// Returns the result of a write after its condition failed.
    fn resolve(&self, stored: Option<&Item>) -> Result<(), WriteError> {
        is_written(stored, &self.put.item).then_some(()).ok_or(WriteError::Conflict)
    }
}

/// The index of a write in its call, and the result.
type IndexedResult = (usize, Result<(), WriteError>);

impl States {
    pub(super) async fn save_all(&self, writes: &[StateWrite]) -> Vec<Result<(), WriteError>> {
        let (mut uncounted, mut counted, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = HashSet::new();
        for (index, write) in writes.iter().enumerate() {
            let state = &write.state;
            // The first write of a device in this call makes the version of the second one old.
            if !ids.insert(&state.device_id) {
                results.push((index, Err(WriteError::Conflict)));
                continue;
            }
            match put(&self.table, state) {
                Err(error) => results.push((index, Err(error.into()))),
                Ok(put) => {
                    let (shard, read_version) = (state.device_id.shard(), state.version);
                    let count_changes = count_changes(write);
                    let list = if count_changes.is_empty() { &mut uncounted } else { &mut counted };
                    list.push(PlannedWrite { index, shard, read_version, put, count_changes });
                }
            }
        }
        let counted = stream::iter(group_by_shard(counted))
            .map(|group| self.save_counted(group))
            .buffer_unordered(CONCURRENCY)
            .concat();
        let (uncounted, counted) = join(self.save_uncounted(uncounted), counted).await;
        results.extend(uncounted.into_iter().chain(counted));
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    async fn save_uncounted(&self, writes: Vec<PlannedWrite>) -> Vec<IndexedResult> {
        if let [write] = &writes[..] {
            let result = conditional::put(&self.table.client, write.put.clone()).await;
            return vec![write.finish(result)];
        }
        let mut results = Vec::with_capacity(writes.len());
        let mut sent = Vec::with_capacity(writes.len());
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            match to_statement(&self.table, &write.put, write.read_version) {
                Ok(statement) => {
                    statements.push(statement);
                    sent.push(write);
                }
                Err(error) => results.push((write.index, Err(error.into()))),
            }
        }
        let executed = partiql_batch::execute(&self.table.client, statements).await;
        results.extend(sent.iter().zip(executed).map(|(write, result)| write.finish(result)));
        results
    }

    /// Saves states of one shard together with their counts. A failed condition cancels the whole
    /// transaction, so that the others are written again without the states that conflict.
    async fn save_counted(&self, mut writes: Vec<PlannedWrite>) -> Vec<IndexedResult> {
        let mut results = Vec::with_capacity(writes.len());
        while let Some(first) = writes.first() {
            match self.write_transaction(first.shard, &writes).await {
                Ok(()) => {
                    results.extend(writes.drain(..).map(|write| (write.index, Ok(()))));
                }
                Err(TransactionError::Store(error)) => {
                    let copy = error.share();
                    results.extend(writes.drain(..).map(|write| (write.index, Err(copy().into()))));
                }
                Err(TransactionError::ConditionFailed(failed)) => {
                    let mut others = Vec::with_capacity(writes.len());
                    for (i, write) in writes.into_iter().enumerate() {
                        if failed.contains(i) {
                            let stored = failed.existing_item(i);
                            results.push((write.index, write.resolve(stored.as_ref())));
                        } else {
                            others.push(write);
                        }
                    }
                    writes = others;
                }
            }
        }
        results
    }

    async fn write_transaction(
        &self,
        shard: Shard,
        writes: &[PlannedWrite],
    ) -> Result<(), TransactionError> {
        let changes: Vec<_> = writes.iter().flat_map(|write| write.count_changes.clone()).collect();
        let counts = counters::add(&self.table, "", shard, &changes)?;
        let puts = writes.iter().map(|write| write.put.clone().action());
        let actions = puts.chain(counts.map(TransactAction::action)).collect();
        transaction::write(&self.table.client, actions).await
    }
}

/// Groups writes into transactions of one shard each, whose states share a count.
fn group_by_shard(mut writes: Vec<PlannedWrite>) -> Vec<Vec<PlannedWrite>> {
    writes.sort_by_key(|write| write.shard);
    let mut groups: Vec<Vec<PlannedWrite>> = Vec::new();
    let mut group_bytes = 0;
    for write in writes {
        let bytes = size(&write.put.item);
        match groups.last_mut() {
            Some(group)
                if group.len() < MAX_COUNTED_WRITES
                    && group_bytes + bytes <= MAX_COUNTED_BYTES
                    && group.iter().all(|other| other.shard == write.shard) =>
            {
                group_bytes += bytes;
                group.push(write);
            }
            _ => {
                group_bytes = bytes;
                groups.push(vec![write]);
            }
        }
    }
    groups
}

/// Returns the changes of the counts by connection. Unregistered devices are not counted.
fn count_changes(write: &StateWrite) -> Vec<(&'static str, i64)> {
    let (before, after) = (write.connection_before, write.state.presence.connection);
    if write.state.registered && before != after {
        vec![(before.as_str(), -1), (after.as_str(), 1)]
    } else {
        Vec::new()
    }
}
