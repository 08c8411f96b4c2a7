//! The domain of IoT Meter: types and rules without I/O, an async runtime or an SDK.

pub mod aggregate;
pub mod alert;
pub mod archive;
pub mod command;
pub mod device;
pub mod id;
pub mod message;
pub mod metric;
pub mod notification;
pub mod rule;
pub mod segments;
pub mod sequence;
pub mod state;
pub mod time;
