use std::process::ExitCode;

use devices::{Devices, ROUTES};
use meter_aws::Clients;
use meter_domain::state::DevicePolicy;
use meter_http::route::Router;
use meter_http::serve::{Function, Server};
use meter_http::settings::Api;
use meter_runtime::rest::{self, Error};
use meter_runtime::settings::{self, Commands, Presence};
use meter_runtime::{AwsStores, StoreSettings};

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, stores): (Api, StoreSettings) = settings::load()?;
    let (commands, presence): (Commands, Presence) = settings::load()?;
    let clients = Clients::from_environment().await;
    let devices = Devices {
        stores: AwsStores::new(&clients, &stores),
        policy: stores.alerting.extend_policy(DevicePolicy {
            rollup_gap_s: stores.metrics.rollup_gap_s(),
            ..presence.device_policy()
        }),
        command_timeout_s: commands.timeout_s,
    };
    Ok(Server::new(devices, Router::new(ROUTES)?, api))
}
