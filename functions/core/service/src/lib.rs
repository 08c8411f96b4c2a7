//! Use cases over the ports of [`meter_store`], independent of databases and SDKs.

pub mod backtest;
pub mod command_publisher;
pub mod device_cleanup;
pub mod effects;
pub mod ingestion;
pub mod message_backed_metrics;
mod message_writer;
pub mod optimistic_update;
pub mod point_reader;
mod purge;
pub mod recount;
pub mod replay;
pub mod report_interval;
pub mod rollup;
pub mod rule_cache;
#[cfg(test)]
mod test_fixtures;
pub mod watchdog;
