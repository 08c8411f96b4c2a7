//! The metric store that is in the messages: points are read from the parts of messages, which are written
//! anyway, and windows from their rollups, where there are exact ones.

mod plan;
mod windows;

use crate::points;
use crate::store::memory::Memory;
use crate::store::{
    DevicePoint, MessageStore, MetricStore, NotStored, PointPage, PointQuery, RollupStore,
    StateStore, StoreError, WindowPage, WindowQuery, Written,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct InMessages<M, R, S> {
    /// Where the points are.
    pub messages: M,
    /// What minutes and hours of them come to.
    pub rollups: R,
    /// What is known of the devices, with the hours whose rollups are not exact.
    pub states: S,
    /// The longest gap, in seconds, that an integral bridges.
    pub max_gap_s: u32,
}

impl InMessages<Memory, Memory, Memory> {
    /// All of it in memory, for tests.
    pub fn in_memory(memory: &Memory) -> Self {
        let (messages, rollups, states) = (memory.clone(), memory.clone(), memory.clone());
        Self { messages, rollups, states, max_gap_s: 300 }
    }
}

impl<M, R, S> MetricStore for InMessages<M, R, S>
where
    M: MessageStore,
    R: RollupStore,
    S: StateStore,
{
    fn is_in_messages(&self) -> bool {
        true
    }

    async fn put_points(&self, _: &[DevicePoint]) -> Result<Written, NotStored> {
        Ok(Written::default())
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        points::read(&self.messages, query).await
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        windows::read(self, query).await
    }
}

#[cfg(test)]
mod tests;
