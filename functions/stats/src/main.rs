use std::process::ExitCode;

use meter_aws::{Clients, StoreProbe};
use meter_http::App;
use meter_http::settings::Api;
use meter_runtime::rest::{self, Error};
use meter_runtime::{AwsStores, StoreSettings, settings};
use stats::Stats;

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(app()).await
}

async fn app() -> Result<App, Error> {
    let (api, settings): (Api, StoreSettings) = settings::load()?;
    let clients = Clients::from_environment().await;
    let stats = Stats {
        stores: AwsStores::new(&clients, &settings),
        probe: StoreProbe::new(&clients, &settings.bucket, &settings.tables),
    };
    Ok(stats::app(stats, api))
}
