//! The archive's layout: what an object holds and where a message is in it.

use serde::{Deserialize, Serialize};

/// Where a message's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The object's key.
    pub object: String,
    /// The gzip member that holds the message: offset and length in bytes. None: the whole object is
    /// the message, as it is.
    pub member: Option<(u64, u64)>,
}
