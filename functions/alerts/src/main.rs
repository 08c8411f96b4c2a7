use std::process::ExitCode;

use alerts::Alerts;
use meter_aws::Clients;
use meter_http::App;
use meter_http::settings::Api;
use meter_runtime::rest::{self, Error};
use meter_runtime::{AwsStores, StoreSettings, settings};

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(app()).await
}

async fn app() -> Result<App, Error> {
    let (api, settings): (Api, StoreSettings) = settings::load()?;
    let clients = Clients::from_environment().await;
    let alerts = Alerts {
        stores: AwsStores::new(&clients, &settings),
        hold_down_s: settings.alerting.hold_down_s,
    };
    Ok(alerts::app(alerts, api))
}
