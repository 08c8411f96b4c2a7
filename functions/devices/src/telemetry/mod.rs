//! What devices sent: as points, as messages, and what could not be read.

pub(crate) mod metrics;
pub(crate) mod quarantine;
pub(crate) mod raw_data;
