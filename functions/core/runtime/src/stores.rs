//! The adapters of all ports on AWS.

use meter_aws::settings::{ArchiveBucket, IngestQueue, Tables};
use meter_aws::{AwsPublisher, Clients, IotCommandPublisher, S3Archive, SnsNotifier, dynamodb};
use meter_store::Stores;

use crate::ConfiguredMetricStore;
use crate::settings::{Alerting, Environment, Metrics, Settings};

/// The settings of [`AwsStores`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The names of the tables.
    pub tables: Tables,
    /// The bucket of the archive.
    pub bucket: ArchiveBucket,
    /// The queue in front of ingest.
    pub queue: IngestQueue,
    /// The metric store.
    pub metrics: Metrics,
    /// The topic of notifications, among the other settings of alerts.
    pub alerting: Alerting,
}

impl Settings for StoreSettings {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            tables: Tables::read(environment),
            bucket: ArchiveBucket::read(environment),
            queue: IngestQueue::read(environment),
            metrics: Metrics::read(environment),
            alerting: Alerting::read(environment),
        }
    }
}

macro_rules! aws_stores {
    ($($port:ident $accessor:ident: $adapter:ty),+ $(,)?) => {
        /// All ports of the system on AWS. No port is called before it is used, so a function needs
        /// permissions only for the ports that it uses.
        #[derive(Debug, Clone)]
        pub struct AwsStores {
            $($accessor: $adapter),+
        }

        impl Stores for AwsStores {
            $(type $port = $adapter;

            fn $accessor(&self) -> &$adapter {
                &self.$accessor
            })+
        }
    };
}

aws_stores! {
    Archive archive: S3Archive,
    Messages messages: dynamodb::Messages,
    Metrics metrics: ConfiguredMetricStore,
    States states: dynamodb::States,
    Devices devices: dynamodb::Devices,
    Alerts alerts: dynamodb::Alerts,
    Rules rules: dynamodb::AlertRules,
    Commands commands: dynamodb::Commands,
    Publisher publisher: AwsPublisher,
    Queue queue: meter_aws::IngestQueue,
}

impl AwsStores {
    /// The resources that the settings name.
    pub fn new(clients: &Clients, settings: &StoreSettings) -> Self {
        let StoreSettings { tables, bucket, queue, metrics, alerting } = settings;
        Self {
            archive: S3Archive::new(clients, bucket.name.as_str()),
            messages: dynamodb::Messages::new(clients, tables),
            metrics: ConfiguredMetricStore::new(clients, tables, metrics),
            states: dynamodb::States::new(clients, tables),
            devices: dynamodb::Devices::new(clients, tables),
            alerts: dynamodb::Alerts::new(clients, tables),
            rules: dynamodb::AlertRules::new(clients, tables),
            commands: dynamodb::Commands::new(clients, tables),
            publisher: AwsPublisher {
                commands: IotCommandPublisher::new(clients),
                alerts: SnsNotifier::new(clients, alerting.topic_arn.clone()),
            },
            queue: meter_aws::IngestQueue::new(clients, queue),
        }
    }
}
