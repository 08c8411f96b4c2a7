use std::process::ExitCode;

use meter_core::aws::{Clients, Readiness, dynamodb};
use meter_core::config::{self, Api, ArchiveBucket, Tables};
use meter_core::http::serve::{self, Error, Function, Server};
use stats::Stats;

#[tokio::main]
async fn main() -> ExitCode {
    serve::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, bucket): (Api, Tables, ArchiveBucket) = config::load()?;
    let clients = Clients::from_environment().await;
    let stats = Stats {
        registry: dynamodb::Devices::new(&clients, &tables),
        alerts: dynamodb::Alerts::new(&clients, &tables),
        stores: Readiness::new(&clients, &bucket, &tables),
    };
    Ok(Server::new(stats, stats::router()?, api))
}
