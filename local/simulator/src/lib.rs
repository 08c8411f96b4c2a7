//! A fleet of simulated meters on rolling stock, as docs/protocol.md describes them.
//!
//! [`train`] simulates the physics. [`config`], [`command`], [`ota`], [`message`], [`faults`] and
//! [`outbox`] are the parts of a [`device`], a state machine without I/O. [`link`] is one MQTT
//! connection that matches acknowledgements, [`session`] is one connection of a device,
//! [`connection`] reconnects, and [`fleet`] runs many devices. [`cli`] and [`report`] are the user
//! interface.

pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod connection;
pub mod counters;
pub mod device;
pub mod faults;
pub mod fleet;
pub mod fleet_context;
pub mod identities;
pub mod limits;
pub mod link;
pub mod message;
pub mod ota;
pub mod outbox;
pub mod report;
pub mod session;
pub mod train;
