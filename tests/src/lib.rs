pub mod device;
pub mod load;
pub mod soak;
pub mod system;
