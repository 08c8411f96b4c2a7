//! Use cases over the ports of [`meter_store`]. Nothing here names a database or an SDK.

pub mod backtest;
pub mod in_messages;
pub mod lock;
pub mod outbox;
pub mod points;
mod purge;
pub mod replay;
pub mod reporting;
pub mod rollup;
pub mod rule_cache;
pub mod sweep;
