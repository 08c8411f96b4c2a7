//! Starts, watches and stops the whole system on one machine: the AWS endpoint with the stores in it, the
//! MQTT broker, the functions behind their routers, the edge, and simulated devices.
//!
//! `make run` is this with the ports that people know and a data folder in the checkout. The black-box
//! tests start stacks of their own, in parallel, on free ports and in temporary folders:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! let stack = devstack::DevStack::start(devstack::Options::default()).await?;
//! println!("{}/api/devices, logs in {}", stack.rest_url(), stack.logs().display());
//! stack.stop().await;
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
mod redrive;
mod seed_data;
mod settings;
mod stack;
mod stores;
mod timestream;
mod tls;

pub use data_directory::{SETTINGS_FILE, remove_data};
pub use notifications::Notifications;
pub use options::{Components, MetricStore, Options};
pub use ports::Ports;
pub use redrive::{RedriveReport, RedriveTarget, redrive};
pub use settings::read as read_settings;
pub use stack::DevStack;
