//! A fleet of simulated meters on rolling stock, as docs/protocol.md describes them.
//!
//! From pure to outside: [`train`] is the physics, [`config`], [`command`], [`ota`], [`message`],
//! [`faults`] and [`outbox`] are the parts of a [`device`], which is a state machine without a
//! network. [`link`] is one MQTT connection that counts acknowledgements, [`session`] is one of a device,
//! [`connection`] places one call after the other, [`fleet`] runs many devices, and [`cli`] and
//! [`report`] face the person.

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
