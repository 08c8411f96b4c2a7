//! What surrounds a function: settings from the environment, observability, and the adapters of the ports
//! that the settings select.

pub mod metric_store;
pub mod observability;
pub mod rest;
pub mod settings;
pub mod xray;

use meter_aws::settings::Tables;
use meter_aws::{AwsPublisher, Clients, IotCommandPublisher, SnsNotifier, dynamodb};
use meter_service::outbox::Outbox;

use crate::settings::Alerting;

/// The way of effects on AWS.
pub fn outbox(
    clients: &Clients,
    tables: &Tables,
    alerting: &Alerting,
) -> Outbox<dynamodb::States, dynamodb::Alerts, dynamodb::Commands, dynamodb::Devices, AwsPublisher>
{
    Outbox {
        states: dynamodb::States::new(clients, tables),
        alerts: dynamodb::Alerts::new(clients, tables),
        commands: dynamodb::Commands::new(clients, tables),
        registry: dynamodb::Devices::new(clients, tables),
        publisher: AwsPublisher {
            commands: IotCommandPublisher::new(clients),
            alerts: SnsNotifier::new(clients, alerting.topic_arn.clone()),
        },
    }
}
