use std::process::ExitCode;

use alerts::{Alerts, ROUTES};
use meter_core::aws::{Clients, dynamodb};
use meter_core::config::{self, Api, Tables};
use meter_core::http::route::Router;
use meter_core::http::serve::{self, Error, Function, Server};

#[tokio::main]
async fn main() -> ExitCode {
    serve::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables): (Api, Tables) = config::load()?;
    let clients = Clients::from_environment().await;
    let alerts = dynamodb::Alerts::new(&clients, &tables);
    Ok(Server::new(Alerts { alerts }, Router::new(ROUTES)?, api))
}
