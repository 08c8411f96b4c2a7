//! The environment of a function: its settings, observability, and the adapters that the settings
//! select.

mod invocation;
mod metric_store;
pub mod observability;
pub mod rest;
pub mod settings;
mod stores;
pub mod xray;

pub use self::invocation::serve;
pub use self::metric_store::ConfiguredMetricStore;
pub use self::stores::{AwsStores, StoreSettings};
