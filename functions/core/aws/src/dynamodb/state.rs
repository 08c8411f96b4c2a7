//! What is known of each device, in the table `device-state`: `device_id`, the `version` of the lock, and
//! the state as one JSON text, which nobody but this code has to understand; and when it is due, for the
//! index `by-due`. Also the counts of devices by connection, in `#stats#NN`.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::{
    BatchStatementRequest, Put, ReturnValuesOnConditionCheckFailure as OnFailure, Update,
};
use futures::future::{join, join_all};
use futures::{StreamExt, stream};
use meter_domain::id::{DeviceId, Shard};
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::error_chain;
use meter_store::{StateStore, StateWrite, StoreError, WriteError};
use serde::{Deserialize, Serialize};

use super::batch::{self, CONCURRENCY};
use super::conditional::{self, ConditionalWriteError};
use super::item::{Item, decode, encode, from_json, number, size, text, to_json};
use super::partiql_batch;
use super::table::{Table, checked_build, names, values};
use super::transaction::{self, TransactAction, TransactionError};
use super::{counters, due};
use crate::Clients;
use crate::settings::Tables;

/// States that share a transaction, and one count, when their connections change. When a whole fleet
/// comes back after an outage, that is a twentieth of the writes to the counts.
const MAX_COUNTED_WRITES: usize = 20;

/// What such a transaction may weigh; DynamoDB takes 4 MB.
const MAX_COUNTED_BYTES: usize = 3 * 1024 * 1024;

/// The table `device-state`: a [`StateStore`], and a [`IngestLagStore`](meter_store::IngestLagStore).
#[derive(Debug, Clone)]
pub struct States {
    pub(super) table: Table,
}

impl States {
    /// The table of this name.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self { table: table(clients, tables) }
    }
}

/// The table that [`States`] is an adapter of.
pub(super) fn table(clients: &Clients, tables: &Tables) -> Table {
    Table::with_partition_key(clients, &tables.state, "device_id")
}

/// The attributes of an item, and its key.
const ATTRIBUTES: [&str; 7] = [
    "version",
    "registered",
    DEVICE_TYPE,
    "document",
    "v",
    due::SHARD_ATTRIBUTE,
    due::DUE_AT_ATTRIBUTE,
];
const DEVICE_TYPE: &str = "device_type";
const KEY: &str = "device_id";

#[derive(Debug, Serialize, Deserialize)]
struct StateItem {
    device_id: DeviceId,
    version: u64,
    /// For people, and for whatever looks at items and not into documents.
    registered: bool,
    /// Beside the document, so that the registry's transaction can change it without reading that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_type: Option<String>,
    document: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_shard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
}

fn to_item(state: &DeviceState) -> Result<Item, StoreError> {
    encode(&StateItem {
        device_id: state.device_id.clone(),
        version: state.version + 1,
        registered: state.registered,
        device_type: state.device_type.clone(),
        document: to_json(state)?,
        due_shard: state.next_check.map(|_| due::shard(&state.device_id)),
        due_at: state.next_check.map(Timestamp::key),
    })
}

pub(super) fn from_item(item: Item) -> Result<DeviceState, StoreError> {
    let item: StateItem = decode(item)?;
    let mut state: DeviceState = from_json(item.device_id.as_str(), &item.document)?;
    state.version = item.version;
    state.device_type = item.device_type;
    Ok(state)
}

/// Changes the type of a device in its state. Whoever decides from the state meanwhile loses the lock.
pub(super) fn set_device_type(
    table: &Table,
    id: &DeviceId,
    device_type: Option<&str>,
) -> Result<Update, StoreError> {
    let update = table
        .update(id.as_str(), "")
        .condition_expression(table.exists())
        .set_expression_attribute_names(names(["version", DEVICE_TYPE]))
        .expression_attribute_values(":one", number(1));
    let update = match device_type {
        Some(name) => update
            .update_expression("SET #device_type = :type ADD #version :one")
            .expression_attribute_values(":type", text(name)),
        None => update.update_expression("REMOVE #device_type ADD #version :one"),
    };
    checked_build(update.build())
}

/// Puts a state, with the version after its own, where its own is the stored one.
pub(super) fn put(table: &Table, state: &DeviceState) -> Result<Put, StoreError> {
    let put =
        table.put(to_item(state)?).return_values_on_condition_check_failure(OnFailure::AllOld);
    let put = match state.version {
        0 => put.condition_expression(table.not_exists()),
        version => put
            .condition_expression("#version = :read")
            .set_expression_attribute_names(names(["version"]))
            .set_expression_attribute_values(values([("read", number(version))])),
    };
    checked_build(put.build())
}

/// The same as [`put`], as a statement.
fn to_statement(
    table: &Table,
    put: &Put,
    read_version: u64,
) -> Result<BatchStatementRequest, StoreError> {
    let name = &table.name;
    let (present, absent): (Vec<&str>, Vec<&str>) =
        ATTRIBUTES.into_iter().partition(|attribute| put.item.contains_key(*attribute));
    let named = present.iter().chain([&KEY]);
    let mut parameters: Vec<_> =
        named.clone().filter_map(|name| put.item.get(*name)).cloned().collect();
    let sentence = if read_version == 0 {
        let fields: Vec<_> = named.map(|attribute| format!("'{attribute}': ?")).collect();
        format!("INSERT INTO \"{name}\" VALUE {{{}}}", fields.join(", "))
    } else {
        let sets: String = present.iter().map(|name| format!(" SET \"{name}\" = ?")).collect();
        let removes: String = absent.iter().map(|name| format!(" REMOVE \"{name}\"")).collect();
        parameters.push(number(read_version));
        format!("UPDATE \"{name}\"{sets}{removes} WHERE \"{KEY}\" = ? AND \"version\" = ?")
    };
    let request = BatchStatementRequest::builder()
        .statement(sentence)
        .set_parameters(Some(parameters))
        .return_values_on_condition_check_failure(OnFailure::AllOld)
        .build();
    checked_build(request)
}

/// What a condition that is false means. When what was found is what was to be written, a try before
/// this one was done and only its answer was lost: that is no conflict.
fn resolve_failed_condition(stored: Option<&Item>, wanted: &Item) -> Result<(), WriteError> {
    let is_same = |stored: &Item| {
        let mut attributes = ["version", DEVICE_TYPE, "document"].iter();
        attributes.all(|attribute| stored.get(*attribute) == wanted.get(*attribute))
    };
    match stored.is_some_and(is_same) {
        true => Ok(()),
        false => Err(WriteError::Conflict),
    }
}

fn write_result(
    result: Result<(), ConditionalWriteError>,
    wanted: &Item,
) -> Result<(), WriteError> {
    match result {
        Ok(()) => Ok(()),
        Err(ConditionalWriteError::ConditionFailed(stored)) => {
            resolve_failed_condition(stored.as_ref(), wanted)
        }
        Err(ConditionalWriteError::Store(error)) => Err(error.into()),
    }
}

/// A write of a call.
struct PlannedWrite {
    /// Its index in the call.
    index: usize,
    shard: Shard,
    /// The version that was read.
    read_version: u64,
    put: Put,
    /// How the counts change.
    changes: Vec<(&'static str, i64)>,
}

/// The index of a write, and what became of it.
type IndexedResult = (usize, Result<(), WriteError>);

impl States {
    /// One write needs no batch.
    async fn save_one(&self, write: PlannedWrite) -> IndexedResult {
        let wanted = write.put.item.clone();
        let result = conditional::put(&self.table.client, write.put).await;
        (write.index, write_result(result, &wanted))
    }

    async fn save_uncounted(&self, mut writes: Vec<PlannedWrite>) -> Vec<IndexedResult> {
        if writes.len() <= 1 {
            return join_all(writes.pop().map(|write| self.save_one(write))).await;
        }
        let mut answers = Vec::with_capacity(writes.len());
        let mut sent = Vec::with_capacity(writes.len());
        let mut requests = Vec::with_capacity(writes.len());
        for write in writes {
            match to_statement(&self.table, &write.put, write.read_version) {
                Ok(request) => {
                    requests.push(request);
                    sent.push(write);
                }
                Err(error) => answers.push((write.index, Err(error.into()))),
            }
        }
        let results = partiql_batch::execute(&self.table.client, requests).await;
        answers.extend(
            sent.into_iter()
                .zip(results)
                .map(|(write, result)| (write.index, write_result(result, &write.put.item))),
        );
        answers
    }

    /// Writes states and the counts that they change in one transaction. Those whose versions are old
    /// are taken out, and the others tried again.
    async fn save_counted(&self, mut writes: Vec<PlannedWrite>) -> Vec<IndexedResult> {
        let mut answers = Vec::with_capacity(writes.len());
        while !writes.is_empty() {
            let canceled = match self.save_together(&writes).await {
                Ok(()) => {
                    answers.extend(writes.iter().map(|write| (write.index, Ok(()))));
                    return answers;
                }
                Err(canceled) => canceled,
            };
            let refusals = match canceled {
                TransactionError::ConditionFailed(refusals) => refusals,
                TransactionError::Store(error) => {
                    let error = error.share();
                    answers.extend(writes.iter().map(|w| (w.index, Err(error().into()))));
                    return answers;
                }
            };
            let mut others = Vec::with_capacity(writes.len());
            for (i, write) in writes.into_iter().enumerate() {
                if refusals.contains(i) {
                    let answer = resolve_failed_condition(
                        refusals.existing_item(i).as_ref(),
                        &write.put.item,
                    );
                    answers.push((write.index, answer));
                } else {
                    others.push(write);
                }
            }
            writes = others;
        }
        answers
    }

    async fn save_together(&self, writes: &[PlannedWrite]) -> Result<(), TransactionError> {
        let changes: Vec<_> = writes.iter().flat_map(|write| write.changes.clone()).collect();
        let shard = writes.first().map(|write| write.shard);
        let counts = match shard {
            Some(shard) => counters::add(&self.table, "", shard, &changes)?,
            None => None,
        };
        let puts = writes.iter().map(|write| write.put.clone().action());
        let actions = puts.chain(counts.map(TransactAction::action)).collect();
        transaction::write(&self.table.client, actions).await
    }
}

/// Groups for one transaction each, of one shard each: they share a count.
fn group_by_shard(mut writes: Vec<PlannedWrite>) -> Vec<Vec<PlannedWrite>> {
    writes.sort_by_key(|write| write.shard);
    let mut groups: Vec<Vec<PlannedWrite>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let of_this = size(&write.put.item);
        match groups.last_mut() {
            Some(group)
                if group.len() < MAX_COUNTED_WRITES
                    && bytes + of_this <= MAX_COUNTED_BYTES
                    && group.iter().all(|other| other.shard == write.shard) =>
            {
                bytes += of_this;
                group.push(write);
            }
            _ => {
                bytes = of_this;
                groups.push(vec![write]);
            }
        }
    }
    groups
}

/// How the counts by connection follow a write. A device that is not registered is not counted.
fn count_changes(write: &StateWrite) -> Vec<(&'static str, i64)> {
    let (before, now) = (write.connection_before, write.state.presence.connection);
    if write.state.registered && before != now {
        vec![(before.as_str(), -1), (now.as_str(), 1)]
    } else {
        Vec::new()
    }
}

impl StateStore for States {
    async fn get_many(
        &self,
        ids: &[DeviceId],
    ) -> Result<HashMap<DeviceId, DeviceState>, StoreError> {
        let keys = ids.iter().map(|id| (id.to_string(), String::new()));
        let items = batch::get_all(&self.table, keys).await?;
        let mut states = HashMap::new();
        for item in items {
            match from_item(item) {
                Ok(state) => {
                    states.insert(state.device_id.clone(), state);
                }
                // It must not stop its neighbours. Whoever takes it for a device that was never heard
                // loses the lock, so nothing is overwritten.
                Err(error) if ids.len() > 1 => {
                    tracing::error!(error = error_chain(&error), "a device's state is left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(states)
    }

    async fn save_many(&self, writes: &[StateWrite]) -> Vec<Result<(), WriteError>> {
        let (mut plain, mut counted, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = HashSet::new();
        for (index, write) in writes.iter().enumerate() {
            // A batch must not hold a key twice; and after the first write the second has read an old
            // version.
            if !ids.insert(&write.state.device_id) {
                answers.push((index, Err(WriteError::Conflict)));
                continue;
            }
            let changes = count_changes(write);
            match put(&self.table, &write.state) {
                Err(error) => answers.push((index, Err(error.into()))),
                Ok(put) => {
                    let list = if changes.is_empty() { &mut plain } else { &mut counted };
                    let shard = write.state.device_id.shard();
                    let read_version = write.state.version;
                    list.push(PlannedWrite { index, shard, read_version, put, changes });
                }
            }
        }
        let counted = stream::iter(group_by_shard(counted))
            .map(|group| self.save_counted(group))
            .buffer_unordered(CONCURRENCY)
            .concat();
        let (plain, counted) = join(self.save_uncounted(plain), counted).await;
        answers.extend(plain.into_iter().chain(counted));
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn list_due(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, StoreError> {
        let items = due::find(&self.table, now, limit).await?;
        let ids = items.into_iter().filter_map(|item| {
            let (id, _) = self.table.key_text_of(&item);
            // It must not stop its neighbours.
            DeviceId::parse(&id)
                .inspect_err(
                    |error| tracing::error!(device_id = id, %error, "what is due is no device"),
                )
                .ok()
        });
        Ok(ids.collect())
    }
}
