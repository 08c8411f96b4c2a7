use std::process::ExitCode;

use meter_aws::settings::{ArchiveBucket, Tables};
use meter_aws::{Clients, StoreProbe, dynamodb};
use meter_http::serve::{Function, Server};
use meter_http::settings::Api;
use meter_runtime::rest::{self, Error};
use meter_runtime::settings;
use stats::Stats;

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, bucket): (Api, Tables, ArchiveBucket) = settings::load()?;
    let clients = Clients::from_environment().await;
    let stats = Stats {
        registry: dynamodb::Devices::new(&clients, &tables),
        alerts: dynamodb::Alerts::new(&clients, &tables),
        stores: StoreProbe::new(&clients, &bucket, &tables),
    };
    Ok(Server::new(stats, stats::router()?, api))
}
