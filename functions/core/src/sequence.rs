//! Sessions and sequence numbers.

use serde::{Deserialize, Serialize};

/// The last sessions of a device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequence {}
