use ingest::batch::{Choices, Ingest};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_core::aws::{Bucket, Clients, dynamodb};
use meter_core::config::{self, ArchiveBucket, Tables};
use meter_core::observe;
use meter_core::time::Timestamp;
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observe::init();
    let (tables, bucket, settings): (Tables, ArchiveBucket, config::Ingest) = config::load()?;
    let clients = Clients::from_environment().await;
    let ingest = Ingest {
        archive: Bucket::new(&clients, bucket.name),
        messages: dynamodb::Messages::new(&clients, &tables),
        states: dynamodb::States::new(&clients, &tables),
        alerts: dynamodb::Alerts::new(&clients, &tables),
        commands: dynamodb::Commands::new(&clients, &tables),
        choices: Choices {
            layout: settings.archive_layout,
            max_metrics: settings.max_metrics_per_device as usize,
            ttl_days: (settings.message_ttl_days > 0).then_some(settings.message_ttl_days),
            require_registration: settings.require_registration,
        },
    };
    let ingest = &ingest;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        ingest::respond(ingest, &event.payload, Timestamp::now()).await.map_err(Error::from)
    }))
    .await
}
