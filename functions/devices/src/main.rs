use std::process::ExitCode;

use devices::{Devices, ROUTES};
use meter_core::aws::{Bucket, Clients, CommandTopic, dynamodb};
use meter_core::config::{self, Api, ArchiveBucket, Commands, Tables};
use meter_core::http::route::Router;
use meter_core::http::serve::{self, Error, Function, Server};

#[tokio::main]
async fn main() -> ExitCode {
    serve::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, bucket, commands): (Api, Tables, ArchiveBucket, Commands) = config::load()?;
    let clients = Clients::from_environment().await;
    let devices = Devices {
        registry: dynamodb::Devices::new(&clients, &tables),
        states: dynamodb::States::new(&clients, &tables),
        messages: dynamodb::Messages::new(&clients, &tables),
        archive: Bucket::new(&clients, bucket.name),
        alerts: dynamodb::Alerts::new(&clients, &tables),
        commands: dynamodb::Commands::new(&clients, &tables),
        publisher: CommandTopic::new(&clients),
        command_timeout_s: commands.timeout_s,
    };
    Ok(Server::new(devices, Router::new(ROUTES)?, api))
}
