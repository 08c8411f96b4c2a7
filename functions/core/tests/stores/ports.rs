//! One adapter of each port that works on the same stores.

use meter_core::aws::{Bucket, Clients, dynamodb};
use meter_core::config::Tables;
use meter_core::store::memory::Memory;
use meter_core::store::{
    AlertStore, Archive, CommandStore, DeviceStore, MessageStore, QuarantineStore, StateStore,
};

pub(crate) trait Ports: Clone + Send + Sync + 'static {
    fn archive(&self) -> &impl Archive;
    fn messages(&self) -> &impl MessageStore;
    fn quarantine(&self) -> &impl QuarantineStore;
    fn states(&self) -> &impl StateStore;
    fn devices(&self) -> &impl DeviceStore;
    fn alerts(&self) -> &impl AlertStore;
    fn commands(&self) -> &impl CommandStore;
}

#[derive(Clone, Default)]
pub(crate) struct InMemory(Memory);

impl Ports for InMemory {
    fn archive(&self) -> &impl Archive {
        &self.0
    }

    fn messages(&self) -> &impl MessageStore {
        &self.0
    }

    fn quarantine(&self) -> &impl QuarantineStore {
        &self.0
    }

    fn states(&self) -> &impl StateStore {
        &self.0
    }

    fn devices(&self) -> &impl DeviceStore {
        &self.0
    }

    fn alerts(&self) -> &impl AlertStore {
        &self.0
    }

    fn commands(&self) -> &impl CommandStore {
        &self.0
    }
}

#[derive(Clone)]
pub(crate) struct OnAws {
    archive: Bucket,
    messages: dynamodb::Messages,
    states: dynamodb::States,
    devices: dynamodb::Devices,
    alerts: dynamodb::Alerts,
    commands: dynamodb::Commands,
}

impl OnAws {
    pub(crate) fn new(clients: &Clients, bucket: String, tables: &Tables) -> Self {
        Self {
            archive: Bucket::new(clients, bucket),
            messages: dynamodb::Messages::new(clients, tables),
            states: dynamodb::States::new(clients, tables),
            devices: dynamodb::Devices::new(clients, tables),
            alerts: dynamodb::Alerts::new(clients, tables),
            commands: dynamodb::Commands::new(clients, tables),
        }
    }
}

impl Ports for OnAws {
    fn archive(&self) -> &impl Archive {
        &self.archive
    }

    fn messages(&self) -> &impl MessageStore {
        &self.messages
    }

    fn quarantine(&self) -> &impl QuarantineStore {
        &self.messages
    }

    fn states(&self) -> &impl StateStore {
        &self.states
    }

    fn devices(&self) -> &impl DeviceStore {
        &self.devices
    }

    fn alerts(&self) -> &impl AlertStore {
        &self.alerts
    }

    fn commands(&self) -> &impl CommandStore {
        &self.commands
    }
}
