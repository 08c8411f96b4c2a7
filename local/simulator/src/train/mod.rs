//! The train that a meter rides on: motion, supply, and what the meter reads of them.
//!
//! Physics rather than random walks, so that the values belong together: power is the product of
//! what is sent, the line sags under load, and braking gives energy back.

mod meter;
mod motion;
mod noise;
mod supply;

pub use meter::{Meter, Quantity, Reading};
pub use motion::{DrivingPhase, Motion};
pub use supply::{PowerDraw, TractionSystem};
