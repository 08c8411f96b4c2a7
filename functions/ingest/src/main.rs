use ingest::batch::{Choices, Ingest};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_core::aws::{Bucket, Clients, CommandTopic, dynamodb};
use meter_core::config::{self, ArchiveBucket, Presence, Tables};
use meter_core::observe;
use meter_core::outbox::Outbox;
use meter_core::state::Rules;
use meter_core::time::Timestamp;
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observe::init();
    let (tables, bucket, settings, presence): (Tables, ArchiveBucket, config::Ingest, Presence) =
        config::load()?;
    let clients = Clients::from_environment().await;
    let outbox = Outbox {
        states: dynamodb::States::new(&clients, &tables),
        alerts: dynamodb::Alerts::new(&clients, &tables),
        commands: dynamodb::Commands::new(&clients, &tables),
        registry: dynamodb::Devices::new(&clients, &tables),
        publisher: CommandTopic::new(&clients),
    };
    let choices = Choices {
        layout: settings.archive_layout,
        rules: Rules { max_metrics: settings.max_metrics_per_device as usize, ..presence.rules() },
        ttl_days: (settings.message_ttl_days > 0).then_some(settings.message_ttl_days),
        require_registration: settings.require_registration,
    };
    let archive = Bucket::new(&clients, bucket.name);
    let messages = dynamodb::Messages::new(&clients, &tables);
    let ingest = Ingest::new(archive, messages, outbox, choices);
    let ingest = &ingest;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        ingest::respond(ingest, &event.payload, Timestamp::now()).await.map_err(Error::from)
    }))
    .await
}
