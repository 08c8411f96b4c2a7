//! The REST rows of this function, each with its answers and its errors, over stores in memory and
//! messages that the real ingest stored.

mod commands;
mod every_route;
mod metrics;
mod presence;
mod quarantine;
mod raw_data;
mod registry;
mod system;
