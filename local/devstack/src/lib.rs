//! The devstack: the whole system on one machine. It starts, supervises and stops the AWS endpoint
//! with the stores, the MQTT broker, the functions behind their routers, the IoT Core emulator and
//! simulated devices.
//!
//! `make run` starts a devstack on fixed ports with a data directory in the checkout. The black-box
//! tests start devstacks in parallel, on free ports and in temporary directories:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! let devstack = devstack::DevStack::start(devstack::Options::default()).await?;
//! println!("{}/api/devices, logs in {}", devstack.rest_url(), devstack.logs().display());
//! devstack.stop().await;
//! # Ok(())
//! # }
//! ```

mod aws;
mod broker;
mod checkout;
mod child;
mod data_directory;
mod endpoint;
mod functions;
mod mqtt_clients;
mod notifications;
mod options;
mod ports;
mod readiness;
mod reaper;
mod seed_data;
mod settings;
mod stack;
mod stores;
mod timestream;
mod tls;

pub use data_directory::remove_data;
pub use notifications::Notifications;
pub use options::{Components, MetricStore, Options};
pub use ports::Ports;
pub use seed_data::EXAMPLE_DEVICE;
pub use stack::DevStack;
