//! The tables of infra/stores/template.yaml under other names, and buckets and queues.

use std::path::Path;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use meter_aws::settings::Tables;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TableProperties {
    attribute_definitions: Vec<Attribute>,
    key_schema: Vec<Key>,
    #[serde(default)]
    global_secondary_indexes: Vec<Index>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    attribute_name: String,
    attribute_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    attribute_name: String,
    key_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    index_name: String,
    key_schema: Vec<Key>,
    projection: ProjectionProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProjectionProperties {
    projection_type: String,
}

/// Returns a client for an emulator.
pub(crate) async fn dynamodb(endpoint: &str) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&config(endpoint).await)
}

/// Creates all tables in an emulator.
pub(crate) async fn create(endpoint: &str, prefix: &str) -> Tables {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../infra/stores/template.yaml");
    let template = std::fs::read_to_string(path).unwrap();
    let template: yaml_serde::Value = yaml_serde::from_str(&template).unwrap();
    let client = dynamodb(endpoint).await;
    let create = async |logical_id: &str| {
        let properties = template["Resources"][logical_id]["Properties"].clone();
        let name = format!("{prefix}-{logical_id}");
        create_table(&client, &name, yaml_serde::from_value(properties).unwrap()).await;
        name
    };
    Tables {
        devices: create("DevicesTable").await,
        state: create("StateTable").await,
        messages: create("MessagesTable").await,
        alerts: create("AlertsTable").await,
        commands: create("CommandsTable").await,
        rules: create("RulesTable").await,
    }
}

async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str, table: TableProperties) {
    let attributes = table.attribute_definitions.into_iter().map(|attribute| {
        AttributeDefinition::builder()
            .attribute_name(attribute.attribute_name)
            .attribute_type(ScalarAttributeType::from(attribute.attribute_type.as_str()))
            .build()
            .unwrap()
    });
    let indexes = table.global_secondary_indexes.into_iter().map(|index| {
        let projection = ProjectionType::from(index.projection.projection_type.as_str());
        GlobalSecondaryIndex::builder()
            .index_name(index.index_name)
            .set_key_schema(Some(key_schema(index.key_schema)))
            .projection(Projection::builder().projection_type(projection).build())
            .build()
            .unwrap()
    });
    let indexes: Vec<_> = indexes.collect();
    client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes.collect()))
        .set_key_schema(Some(key_schema(table.key_schema)))
        .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
        .send()
        .await
        .unwrap();
}

fn key_schema(keys: Vec<Key>) -> Vec<KeySchemaElement> {
    let element = |key: Key| {
        KeySchemaElement::builder()
            .attribute_name(key.attribute_name)
            .key_type(KeyType::from(key.key_type.as_str()))
            .build()
            .unwrap()
    };
    keys.into_iter().map(element).collect()
}

/// Creates a bucket in an emulator.
pub(crate) async fn create_bucket(endpoint: &str, name: &str) -> String {
    let config = aws_sdk_s3::config::Builder::from(&config(endpoint).await).force_path_style(true);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    client.create_bucket().bucket(name).send().await.unwrap();
    name.to_owned()
}

/// Creates a queue in an emulator; returns a client and the queue URL.
pub(crate) async fn create_queue(endpoint: &str, name: &str) -> (aws_sdk_sqs::Client, String) {
    let client = aws_sdk_sqs::Client::new(&config(endpoint).await);
    let made = client.create_queue().queue_name(name).send().await.unwrap();
    (client, made.queue_url.unwrap())
}

pub(crate) async fn config(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(endpoint)
        .load()
        .await
}
