//! The train of a meter: motion, power supply, and the readings of the meter.
//!
//! A physical model and not random walks, so that the values are consistent: power is the product
//! of voltage and current, the line voltage drops under load, and braking returns energy.

mod meter;
mod motion;
mod noise;
mod supply;

pub use meter::{Meter, Quantity, Reading};
pub use motion::{DrivingPhase, Motion};
pub use supply::{PowerDraw, TractionSystem};
