use std::process::ExitCode;

use devices::{Devices, ROUTES};
use meter_core::aws::{Bucket, Clients, CommandTopic, dynamodb};
use meter_core::config::{self, Api, ArchiveBucket, Commands, Presence, Tables};
use meter_core::http::route::Router;
use meter_core::http::serve::{self, Error, Function, Server};
use meter_core::outbox::Outbox;

#[tokio::main]
async fn main() -> ExitCode {
    serve::start(server()).await
}

async fn server() -> Result<Server<impl Function>, Error> {
    let (api, tables, bucket): (Api, Tables, ArchiveBucket) = config::load()?;
    let (commands, presence): (Commands, Presence) = config::load()?;
    let clients = Clients::from_environment().await;
    let devices = Devices {
        outbox: Outbox {
            states: dynamodb::States::new(&clients, &tables),
            alerts: dynamodb::Alerts::new(&clients, &tables),
            commands: dynamodb::Commands::new(&clients, &tables),
            registry: dynamodb::Devices::new(&clients, &tables),
            publisher: CommandTopic::new(&clients),
        },
        messages: dynamodb::Messages::new(&clients, &tables),
        archive: Bucket::new(&clients, bucket.name),
        rules: presence.rules(),
        command_timeout_s: commands.timeout_s,
    };
    Ok(Server::new(devices, Router::new(ROUTES)?, api))
}
