//! Tests of the running system from outside, and the harnesses for load and faults.

pub mod device;
pub mod expect;
pub mod load;
pub mod soak;
pub mod system;
pub mod wait;
