use std::process::ExitCode;

use devices::Devices;
use meter_aws::Clients;
use meter_domain::state::DevicePolicy;
use meter_http::App;
use meter_http::settings::Api;
use meter_runtime::rest::{self, Error};
use meter_runtime::settings::{self, Commands, Presence};
use meter_runtime::{AwsStores, StoreSettings};

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(app()).await
}

async fn app() -> Result<App, Error> {
    let (api, settings): (Api, StoreSettings) = settings::load()?;
    let (commands, presence): (Commands, Presence) = settings::load()?;
    let clients = Clients::from_environment().await;
    let devices = Devices {
        stores: AwsStores::new(&clients, &settings),
        policy: settings.alerting.extend_policy(DevicePolicy {
            rollup_gap_s: settings.metrics.rollup_gap_s(),
            ..presence.device_policy()
        }),
        command_timeout_s: commands.timeout_s,
    };
    Ok(devices::app(devices, api))
}
