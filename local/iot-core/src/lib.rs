//! The MQTT side of AWS IoT Core, for one machine.
//!
//! Mosquitto is a broker and nothing else; on AWS, IoT Core, SQS's event source mapping and EventBridge
//! do the rest. This crate stands in for those, between Mosquitto, a queue and the functions' runtime API:
//!
//! ```text
//! Mosquitto ──▶ uplink ──▶ queue ──▶ downlink ──▶ function
//!     ▲                              schedules ──▶ function
//!     └────────────────────────────── iot_data ◀── function
//! ```
//!
//! What goes where is read from template.yaml ([`template`]), the same that is deployed to AWS.

mod backoff;
mod config;
mod counters;
mod error_chain;
mod event_source_mapping;
mod functions;
mod iot_data;
mod mqtt;
mod outage;
mod queue;
mod schedules;
pub mod template;
mod topic_rules;

use std::{net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use aws_config::{BehaviorVersion, Region, meta::region::RegionProviderChain, retry::RetryConfig};
use aws_sdk_sqs::Client;
use tokio::{
    fs, select,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use crate::{config::Config, mqtt::BrokerAddress};
use crate::{
    counters::Counters,
    functions::FunctionClient,
    iot_data::IotDataServer,
    queue::Queue,
    template::{Outputs, Routing},
};

/// How long what is in flight may take at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How long it may take to say good-bye to the broker.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// Records in an invocation when neither settings nor template say.
const DEFAULT_BATCH_SIZE: usize = 500;

/// Where AWS is when the environment does not say.
const DEFAULT_REGION: &str = "us-east-1";

/// An edge that has subscribed, listens, and consumes the queue.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where iot-data is offered.
    pub iot_data: SocketAddr,
    /// What goes where.
    pub routing: Routing,
}

/// Runs an edge until `shutdown` is cancelled, and then finishes what is in flight, for five seconds at
/// most. `ready` is called once, when everything works for the first time; broker, queue and functions
/// may come up after the edge.
///
/// # Errors
///
/// When template, outputs or settings are wrong, or an address is taken.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(Ready) + Send,
) -> anyhow::Result<()> {
    let routing = read_routing(&config).await?;
    let functions = FunctionClient::new(&config.functions).context("cannot make an HTTP client")?;
    let sdk = sdk_config(&config).await;
    let sqs = Client::new(&sdk);
    let region = sdk.region().map_or(DEFAULT_REGION, Region::as_ref);
    let counters = Arc::new(Counters::default());
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();

    let (is_ready, ready_receiver) = watch::channel(false);
    let iot_data =
        IotDataServer::bind(config.iot_data, &config.mqtt, Arc::clone(&counters), ready_receiver)
            .await
            .with_context(|| {
                format!(
                    "cannot listen on {} for iot-data: end what uses it, or choose another \
                     address with --iot-data",
                    config.iot_data
                )
            })?;
    let address = iot_data.address()?;
    let mut connected = iot_data.connected();
    tasks.spawn(iot_data.serve(shutdown.clone()));

    let topic_rules = topic_rules::Settings {
        broker: config.mqtt.clone(),
        client_id: config.client_id.clone(),
        topic_filters: routing.topic_filters.clone(),
        queue: Queue::new(sqs.clone(), routing.queue_url.clone()),
        calls: config.send_calls.get(),
    };
    let (subscribed, subscription) = oneshot::channel();
    tasks.spawn(topic_rules::run(topic_rules, Arc::clone(&counters), subscribed, shutdown.clone()));

    for source in routing.event_sources.iter().cloned() {
        let settings = event_source_mapping::Settings {
            receive_calls: config.receive_calls.get(),
            invocations: config.invocations.get(),
            batch_size: match config.batch_size {
                Some(batch_size) => batch_size.get(),
                None => source.batch_size.unwrap_or(DEFAULT_BATCH_SIZE),
            },
            visibility: config.visibility_timeout,
            region: region.to_owned(),
            source,
        };
        tasks.spawn(event_source_mapping::run(
            settings,
            sqs.clone(),
            functions.clone(),
            Arc::clone(&counters),
            shutdown.clone(),
        ));
    }
    for schedule in routing.schedules.iter().cloned() {
        tasks.spawn(schedules::run(
            schedule,
            region.to_owned(),
            functions.clone(),
            Arc::clone(&counters),
            shutdown.clone(),
        ));
    }
    tasks.spawn(counters::report(counters, shutdown.clone()));

    let everything =
        async move { connected.wait_for(|it| *it).await.is_ok() && subscription.await.is_ok() };
    let announcement = async {
        if everything.await {
            is_ready.send_replace(true);
            ready(Ready { iot_data: address, routing });
        }
    };
    // Each task ends at shutdown and not before. What ends before has failed, and so does the edge then: a
    // new process takes over from what the broker and the queue have kept.
    let ends = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task of the edge panicked")??;
        }
        Ok::<_, anyhow::Error>(())
    };
    let mut ends = pin!(ends);
    select! {
        ended = &mut ends => ended?,
        () = announcement => ends.await?,
    }
    info!("stopped");
    Ok(())
}

async fn read_routing(config: &Config) -> anyhow::Result<Routing> {
    let outputs = read_file(&config.outputs, "the outputs of the stores' stack").await?;
    let outputs: Outputs = serde_json::from_str(&outputs).with_context(|| {
        format!(
            "{} is not a JSON object of texts, as {{\"IngestQueueUrl\": \"...\"}}",
            config.outputs.display()
        )
    })?;
    let template = read_file(&config.template, "the SAM template").await?;
    let mut routing = Routing::read(&template, &outputs)
        .with_context(|| config.template.display().to_string())?;
    if let Some(timeout) = config.invoke_timeout {
        routing.override_timeouts(timeout);
    }
    Ok(routing)
}

async fn read_file(path: &Path, what: &str) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .await
        .with_context(|| format!("cannot read {what} from {}", path.display()))
}

async fn sdk_config(config: &Config) -> aws_config::SdkConfig {
    // The edge retries by itself, without end, which the SDK's retries would only delay.
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(RegionProviderChain::default_provider().or_else(DEFAULT_REGION))
        .retry_config(RetryConfig::disabled());
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}
