use std::process::ExitCode;

use devices::{Devices, ROUTES};
use meter_core::aws::{self, Bucket, Clients, dynamodb};
use meter_core::config::{self, Alerting, Api, ArchiveBucket, Commands, Metrics, Presence, Tables};
use meter_core::http::route::Router;
use meter_core::http::serve::{self, Error, Function, Server};
use meter_core::state::Rules;

#[tokio::main]
async fn main() -> ExitCode {
    serve::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, bucket): (Api, Tables, ArchiveBucket) = config::load()?;
    let (commands, presence): (Commands, Presence) = config::load()?;
    let (metrics, alerting): (Metrics, Alerting) = config::load()?;
    let clients = Clients::from_environment().await;
    let devices = Devices {
        outbox: aws::outbox(&clients, &tables, &alerting),
        messages: dynamodb::Messages::new(&clients, &tables),
        metrics: aws::Metrics::new(&clients, &tables, &metrics).await?,
        archive: Bucket::new(&clients, bucket.name),
        rules: alerting.extend(Rules { rollup_gap_s: metrics.rollup_gap_s(), ..presence.rules() }),
        command_timeout_s: commands.timeout_s,
    };
    Ok(Server::new(devices, Router::new(ROUTES)?, api))
}
