//! The REST rows of this function, each with its answers and its errors, over stores in memory and
//! messages that the real ingest stored.

// clippy.toml allows these in tests, but does not see that their helpers are tests, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

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
