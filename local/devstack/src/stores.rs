//! The stores: bucket, queues, tables and topic, deployed in the endpoint by CloudFormation from
//! the template that is deployed on AWS.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudformation::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_cloudformation::types::{Capability, Parameter, Stack};
use tokio::time::{Instant, sleep};

use crate::aws::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use crate::settings::Outputs;

const STACK_NAME: &str = "iot-meter-stores";
/// The local name of the bucket. On AWS, CloudFormation generates one.
const BUCKET_NAME: &str = "iot-data";
/// The remedy for a deployment that fails repeatedly.
const RECOVERY_HINT: &str = "`make reset` removes the local stores, with their data";
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(60);

/// The stores after a deployment.
pub(crate) struct Deployment {
    pub(crate) outputs: Outputs,
    /// Whether this deployment created them.
    pub(crate) new: bool,
}

/// Creates the CloudFormation stack, or updates it to the template.
pub(crate) async fn deploy(endpoint: &str, template: &Path) -> Result<Deployment> {
    let body = tokio::fs::read_to_string(template)
        .await
        .with_context(|| format!("cannot read {}", template.display()))?;
    let client = client(endpoint);
    let new = describe(&client).await?.is_none();
    if new {
        create(&client, body).await?;
    } else {
        update(&client, body).await?;
    }
    let outputs = outputs(&wait_until_complete(&client).await?);
    Ok(Deployment { outputs, new })
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_cloudformation::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(
            ACCESS_KEY_ID,
            SECRET_ACCESS_KEY,
            None,
            None,
            "local",
        ))
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

async fn create(client: &Client, body: String) -> Result<()> {
    client
        .create_stack()
        .stack_name(STACK_NAME)
        .template_body(body)
        .capabilities(Capability::CapabilityAutoExpand)
        .parameters(bucket_name())
        .send()
        .await
        .map_err(|error| call_error("CreateStack", error))?;
    Ok(())
}

async fn update(client: &Client, body: String) -> Result<()> {
    let answer = client
        .update_stack()
        .stack_name(STACK_NAME)
        .template_body(body)
        .capabilities(Capability::CapabilityAutoExpand)
        .parameters(bucket_name())
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        // CloudFormation returns an error when nothing has changed.
        Err(error) if error.message().is_some_and(|text| text.contains("No updates")) => Ok(()),
        Err(error) => Err(call_error("UpdateStack", error)),
    }
}

fn bucket_name() -> Parameter {
    Parameter::builder().parameter_key("BucketName").parameter_value(BUCKET_NAME).build()
}

/// Waits until the stack is complete.
async fn wait_until_complete(client: &Client) -> Result<Stack> {
    let deadline = Instant::now() + DEPLOY_TIMEOUT;
    loop {
        let stack = describe(client).await?.context("stack iot-meter-stores does not exist")?;
        let status = stack.stack_status().map_or("unknown", |status| status.as_str());
        match status {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" => return Ok(stack),
            waiting if waiting.ends_with("_IN_PROGRESS") && Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            _ => bail!(
                "cannot deploy the stores: stack {STACK_NAME} is in {status}: {}. {RECOVERY_HINT}",
                stack.stack_status_reason().unwrap_or("no reason given")
            ),
        }
    }
}

async fn describe(client: &Client) -> Result<Option<Stack>> {
    match client.describe_stacks().stack_name(STACK_NAME).send().await {
        Ok(answer) => Ok(answer.stacks.unwrap_or_default().into_iter().next()),
        Err(error) if error.message().is_some_and(|text| text.contains("does not exist")) => {
            Ok(None)
        }
        Err(error) => Err(call_error("DescribeStacks", error)),
    }
}

fn outputs(stack: &Stack) -> Outputs {
    stack
        .outputs()
        .iter()
        .filter_map(|output| Some((output.output_key.clone()?, output.output_value.clone()?)))
        .collect()
}

/// The message of the service if there was a response, else the chain of causes.
fn call_error<E>(operation: &str, error: E) -> anyhow::Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match error.message() {
        Some(message) => anyhow!("CloudFormation {operation} failed: {message}. {RECOVERY_HINT}"),
        None => anyhow!("CloudFormation {operation} failed: {}", DisplayErrorContext(error)),
    }
}
