use std::process::ExitCode;

use devices::{Devices, ROUTES};
use meter_aws::settings::{ArchiveBucket, Tables};
use meter_aws::{Clients, S3Archive, dynamodb};
use meter_domain::state::DevicePolicy;
use meter_http::route::Router;
use meter_http::serve::{Function, Server};
use meter_http::settings::Api;
use meter_runtime::rest::{self, Error};
use meter_runtime::settings::{self, Alerting, Commands, Metrics, Presence};

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, bucket): (Api, Tables, ArchiveBucket) = settings::load()?;
    let (commands, presence): (Commands, Presence) = settings::load()?;
    let (metrics, alerting): (Metrics, Alerting) = settings::load()?;
    let clients = Clients::from_environment().await;
    let devices = Devices {
        outbox: meter_runtime::outbox(&clients, &tables, &alerting),
        messages: dynamodb::Messages::new(&clients, &tables),
        metrics: meter_runtime::metric_store::ConfiguredMetricStore::new(
            &clients, &tables, &metrics,
        )
        .await?,
        archive: S3Archive::new(&clients, bucket.name),
        policy: alerting.extend_policy(DevicePolicy {
            rollup_gap_s: metrics.rollup_gap_s(),
            ..presence.device_policy()
        }),
        command_timeout_s: commands.timeout_s,
    };
    Ok(Server::new(devices, Router::new(ROUTES)?, api))
}
