//! The adapters to AWS, as the contract suite uses them.

use aws_sdk_dynamodb::types::AttributeValue;
use meter_aws::settings::Tables;
use meter_aws::{Clients, IngestQueue, S3Archive, dynamodb};
use meter_runtime::ConfiguredMetricStore;
use meter_runtime::settings;
use meter_store::{
    AlertStore, Archive, ArchiveListing, CommandStore, DeviceStore, IngestLagStore, MessageStore,
    MetricStore, QuarantineStore, QueueDepth, Recount, RecountReport, RollupStore, RuleStore,
    StateStore,
};
use meter_testing::contract::Ports;

/// Creates the metric store that the settings select.
pub(crate) async fn metrics(
    clients: &Clients,
    tables: &Tables,
    settings: &settings::Metrics,
) -> ConfiguredMetricStore {
    ConfiguredMetricStore::new(clients, tables, settings)
}

#[derive(Clone)]
pub(crate) struct AwsPorts {
    archive: S3Archive,
    messages: dynamodb::Messages,
    metrics: ConfiguredMetricStore,
    states: dynamodb::States,
    devices: dynamodb::Devices,
    alerts: dynamodb::Alerts,
    commands: dynamodb::Commands,
    rules: dynamodb::AlertRules,
    queue: IngestQueue,
    sqs: aws_sdk_sqs::Client,
    queue_url: String,
    dynamodb: aws_sdk_dynamodb::Client,
    tables: Tables,
}

impl AwsPorts {
    pub(crate) fn new(
        clients: &Clients,
        bucket: String,
        tables: &Tables,
        (sqs, queue_url): (aws_sdk_sqs::Client, String),
        dynamodb: aws_sdk_dynamodb::Client,
        metrics: ConfiguredMetricStore,
    ) -> Self {
        let queue = meter_aws::settings::IngestQueue { url: queue_url.clone() };
        Self {
            archive: S3Archive::new(clients, bucket),
            messages: dynamodb::Messages::new(clients, tables),
            metrics,
            states: dynamodb::States::new(clients, tables),
            devices: dynamodb::Devices::new(clients, tables),
            alerts: dynamodb::Alerts::new(clients, tables),
            commands: dynamodb::Commands::new(clients, tables),
            rules: dynamodb::AlertRules::new(clients, tables),
            queue: IngestQueue::new(clients, &queue),
            sqs,
            queue_url,
            dynamodb,
            tables: tables.clone(),
        }
    }
}

impl Ports for AwsPorts {
    fn archive(&self) -> &(impl Archive + ArchiveListing) {
        &self.archive
    }

    fn messages(&self) -> &impl MessageStore {
        &self.messages
    }

    fn quarantine(&self) -> &impl QuarantineStore {
        &self.messages
    }

    fn metrics(&self) -> &impl MetricStore {
        &self.metrics
    }

    fn rollups(&self) -> &impl RollupStore {
        &self.messages
    }

    fn states(&self) -> &impl StateStore {
        &self.states
    }

    fn ingest_lag(&self) -> &impl IngestLagStore {
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

    fn rules(&self) -> &impl RuleStore {
        &self.rules
    }

    fn queue(&self) -> &impl QueueDepth {
        &self.queue
    }

    async fn recount(&self) -> Vec<RecountReport> {
        let (devices, alerts) = futures::join!(self.devices.recount(), self.alerts.recount());
        [devices.unwrap(), alerts.unwrap()].concat()
    }

    async fn corrupt_counts(&self) {
        let Tables { devices, state, alerts, .. } = &self.tables;
        for (table, count, by) in
            [(devices, "active", "3"), (state, "online", "2"), (alerts, "unacknowledged", "-4")]
        {
            let text = |text: &str| AttributeValue::S(text.to_owned());
            let mut update = self.dynamodb.update_item().table_name(table);
            if count == "unacknowledged" {
                update = update.key("alert_id", text(count));
            }
            update
                .key("device_id", text("#stats#07"))
                .update_expression("ADD #count :by")
                .expression_attribute_names("#count", count)
                .expression_attribute_values(":by", AttributeValue::N(by.to_owned()))
                .send()
                .await
                .unwrap();
        }
    }

    async fn send(&self, messages: u64) {
        for n in 0..messages {
            let send = self.sqs.send_message().queue_url(&self.queue_url);
            send.message_body(n.to_string()).send().await.unwrap();
        }
    }

    async fn receive(&self) {
        let receive = self.sqs.receive_message().queue_url(&self.queue_url);
        let received = receive.max_number_of_messages(1).send().await.unwrap();
        assert_eq!(received.messages().len(), 1);
    }
}
