use std::process::ExitCode;

use alerts::{Alerts, ROUTES};
use meter_core::aws::{self, Clients, dynamodb};
use meter_core::config::{self, Alerting, Api, Metrics, Tables};
use meter_core::http::route::Router;
use meter_core::http::serve::{self, Error, Function, Server};

#[tokio::main]
async fn main() -> ExitCode {
    serve::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, alerting): (Api, Tables, Alerting) = config::load()?;
    let metrics: Metrics = config::load()?;
    let clients = Clients::from_environment().await;
    let alerts = Alerts {
        alerts: dynamodb::Alerts::new(&clients, &tables),
        rules: dynamodb::Rules::new(&clients, &tables),
        metrics: aws::Metrics::new(&clients, &tables, &metrics).await?,
        hold_down_s: alerting.hold_down_s,
    };
    Ok(Server::new(alerts, Router::new(ROUTES)?, api))
}
