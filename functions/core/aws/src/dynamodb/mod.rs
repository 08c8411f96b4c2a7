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
mod devices;
mod due;
mod idempotency;
mod index;
mod item;
mod listing;
mod making;
mod messages;
mod progress;
mod quarantine;
mod recount;
mod rollups;
mod rules;
mod samples;
mod seen_days;
mod state;
mod statements;
mod sweeping;
mod table;
mod transaction;

pub use self::alerts::Alerts;
pub use self::commands::Commands;
pub use self::devices::Devices;
pub use self::messages::Messages;
pub use self::rules::Rules;
pub use self::state::States;
