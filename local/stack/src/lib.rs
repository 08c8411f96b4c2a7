//! Starts, watches and stops the whole system on one machine: the AWS endpoint with the stores in it, the
//! MQTT broker, the functions behind their routers, the edge, and simulated devices.
//!
//! `make run` is this with the ports that people know and a data folder in the checkout. The black-box
//! tests start stacks of their own, in parallel, on free ports and in temporary folders:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! let stack = stack::Stack::start(stack::Options::default()).await?;
//! println!("{}/api/devices, logs in {}", stack.rest_url(), stack.logs().display());
//! stack.stop().await;
//! # Ok(())
//! # }
//! ```

mod aws;
mod broker;
mod child;
mod edge;
mod endpoint;
mod folder;
mod functions;
mod guard;
mod notifications;
mod options;
mod ports;
mod ready;
mod redrive;
mod sample;
mod secure;
mod settings;
mod stack;
mod stores;
mod timestream;

pub use folder::{SETTINGS, remove_data};
pub use notifications::Notifications;
pub use options::{MetricStore, Options, Parts};
pub use ports::Ports;
pub use redrive::{Account, Redriven, redrive};
pub use settings::read as read_settings;
pub use stack::Stack;
