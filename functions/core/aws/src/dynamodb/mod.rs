//! Adapters to DynamoDB, a file each, over a few pieces that they share: `item` (encoding), `table` (keys,
//! reading one item, expressions); `conditional`, `batch`, `statements` and `transaction` (the four ways
//! to write); `counters`, `due`, `index`, `listing` (pages merged from partitions), `making`, `sweeping`
//! and `idempotency`.
//!
//! Tables and keys are those of infra/stores/template.yaml. Nothing here scans a table.

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
