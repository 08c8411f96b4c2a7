use std::process::ExitCode;

use alerts::{Alerts, ROUTES};
use meter_aws::settings::Tables;
use meter_aws::{Clients, dynamodb};
use meter_http::route::Router;
use meter_http::serve::{Function, Server};
use meter_http::settings::Api;
use meter_runtime::ConfiguredMetricStore;
use meter_runtime::rest::{self, Error};
use meter_runtime::settings::{self, Alerting, Metrics};

#[tokio::main]
async fn main() -> ExitCode {
    rest::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, alerting): (Api, Tables, Alerting) = settings::load()?;
    let metrics: Metrics = settings::load()?;
    let clients = Clients::from_environment().await;
    let alerts = Alerts {
        alerts: dynamodb::Alerts::new(&clients, &tables),
        rules: dynamodb::AlertRules::new(&clients, &tables),
        metrics: ConfiguredMetricStore::new(&clients, &tables, &metrics),
        hold_down_s: alerting.hold_down_s,
    };
    Ok(Server::new(alerts, Router::new(ROUTES)?, api))
}
