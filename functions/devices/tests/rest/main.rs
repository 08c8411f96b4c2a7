//! The routes of this function with their responses and errors, over stores in memory and messages
//! that the ingestion stored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot continue"
)]

mod changes;
mod commands;
mod every_route;
mod fleet;
mod metrics;
mod presence;
mod purge;
mod quarantine;
mod raw_data;
mod registry;
mod reporting;
mod sizes;
mod system;
