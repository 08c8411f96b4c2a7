pub mod device;
pub mod load;
pub mod system;
