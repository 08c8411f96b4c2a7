//! Adapters to DynamoDB: a module for each port, over shared modules.
//!
//! - `item` encodes items; `table` has keys, single reads and parts of expressions.
//! - `conditional`, `batch`, `partiql_batch` and `transaction` are the four kinds of writes.
//! - `merged_query` merges partitions to pages; `due` and `index` query indexes.
//! - `counters` and `recount` maintain the counts of the fleet.
//! - `idempotency`, `idempotent_create` and `guarded_delete` are transactions of several adapters.
//!
//! Tables, keys and indexes are those of infra/stores/template.yaml. No function scans a table.

mod alerts;
mod batch;
mod commands;
mod conditional;
mod counters;
mod day_cache;
mod devices;
mod due;
mod guarded_delete;
mod idempotency;
mod idempotent_create;
mod index;
mod ingest_lag;
mod item;
mod merged_query;
mod messages;
mod partiql_batch;
mod quarantine;
mod recount;
mod rollups;
mod rules;
mod samples;
mod state;
mod table;
mod transaction;

pub use self::alerts::Alerts;
pub use self::commands::Commands;
pub use self::devices::Devices;
pub use self::messages::Messages;
pub use self::rules::AlertRules;
pub use self::state::States;
