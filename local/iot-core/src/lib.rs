//! An IoT Core emulator: the parts of AWS between devices and functions, for one machine.
//!
//! Mosquitto is the MQTT broker. This crate adds what AWS IoT Core, SQS event source mappings and
//! EventBridge do with its messages:
//!
//! ```text
//! Mosquitto ──▶ topic rules ──▶ queue ──▶ event source mapping ──▶ function
//! ▲                                              schedules ──▶ function
//! └──────────────────────────────────────────── iot_data ◀──── function
//! ```
//!
//! Rules, event sources and schedules are read from template.yaml ([`template`]), which is also
//! what is deployed to AWS.

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
    template::{EventSource, Outputs, Routing},
};

/// The maximum time that messages and invocations in flight may take at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The maximum time that the disconnect from the broker may take.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// The number of records of an invocation, if neither settings nor template set it.
const DEFAULT_BATCH_SIZE: usize = 500;

/// The AWS region, if the environment does not set it.
const DEFAULT_REGION: &str = "us-east-1";

/// What a running emulator offers.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The address of the iot-data API.
    pub iot_data: SocketAddr,
    /// The rules, event sources and schedules in force.
    pub routing: Routing,
}

/// Runs an emulator until `shutdown` is cancelled; then finishes what is in flight, within five
/// seconds.
///
/// `ready` is called once, when the subscription, the API and the queue work for the first time.
/// Broker, queue and functions may start after the emulator.
///
/// # Errors
///
/// If the template, the outputs or a setting is invalid, an address is in use, or a task fails.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(Ready) + Send,
) -> anyhow::Result<()> {
    let routing = read_routing(&config).await?;
    let functions =
        FunctionClient::new(&config.functions).context("cannot create an HTTP client")?;
    let sdk = sdk_config(&config).await;
    let sqs = Client::new(&sdk);
    let region = sdk.region().map_or(DEFAULT_REGION, Region::as_ref);
    let counters = Arc::new(Counters::default());
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();

    let (is_ready, ready_receiver) = watch::channel(false);
    let iot_data = bind_iot_data(&config, Arc::clone(&counters), ready_receiver).await?;
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
        let settings = event_source_settings(&config, source, region);
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

    let announcement = async {
        if connected.wait_for(|it| *it).await.is_ok() && subscription.await.is_ok() {
            is_ready.send_replace(true);
            ready(Ready { iot_data: address, routing });
        }
    };
    // A task that ends before shutdown has failed, and the emulator fails with it. A new process
    // continues with the messages that broker and queue have kept.
    let ends = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task panicked")??;
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

async fn bind_iot_data(
    config: &Config,
    counters: Arc<Counters>,
    ready: watch::Receiver<bool>,
) -> anyhow::Result<IotDataServer> {
    IotDataServer::bind(config.iot_data, &config.mqtt, counters, ready).await.with_context(|| {
        format!(
            "cannot listen on {} for iot-data: stop the process that uses the address, or set \
             another with --iot-data",
            config.iot_data
        )
    })
}

fn event_source_settings(
    config: &Config,
    source: EventSource,
    region: &str,
) -> event_source_mapping::Settings {
    event_source_mapping::Settings {
        receive_calls: config.receive_calls.get(),
        invocations: config.invocations.get(),
        batch_size: match config.batch_size {
            Some(batch_size) => batch_size.get(),
            None => source.batch_size.unwrap_or(DEFAULT_BATCH_SIZE),
        },
        visibility: config.visibility_timeout,
        region: region.to_owned(),
        source,
    }
}

async fn read_routing(config: &Config) -> anyhow::Result<Routing> {
    let outputs = read_file(&config.outputs, "the outputs of the stores stack").await?;
    let outputs: Outputs = serde_json::from_str(&outputs).with_context(|| {
        format!(
            "{} is not a JSON object of strings such as {{\"IngestQueueUrl\": \"...\"}}",
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
    // The emulator retries without limit; the retries of the SDK would only delay that.
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(RegionProviderChain::default_provider().or_else(DEFAULT_REGION))
        .retry_config(RetryConfig::disabled());
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}
