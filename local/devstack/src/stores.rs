//! Bucket, queues and tables, made in the endpoint by CloudFormation from the template that AWS gets.

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
/// The bucket's name locally; on AWS CloudFormation makes one up.
const BUCKET_NAME: &str = "iot-data";
/// What helps when a deployment fails for good.
const RECOVERY_HINT: &str = "`make reset` removes the local stores, with their data";
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(60);

/// The stores after a deployment.
pub(crate) struct Deployment {
    pub(crate) outputs: Outputs,
    /// They were not there before.
    pub(crate) new: bool,
}

/// Creates the stack, or brings it to what the template says now.
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
        // CloudFormation calls it an error that there is nothing to do.
        Err(error) if error.message().is_some_and(|text| text.contains("No updates")) => Ok(()),
        Err(error) => Err(call_error("UpdateStack", error)),
    }
}

fn bucket_name() -> Parameter {
    Parameter::builder().parameter_key("BucketName").parameter_value(BUCKET_NAME).build()
}

/// The stack as it is once nothing is in progress any more.
async fn wait_until_complete(client: &Client) -> Result<Stack> {
    let deadline = Instant::now() + DEPLOY_TIMEOUT;
    loop {
        let stack = describe(client).await?.context("the stack of the stores is gone")?;
        let status = stack.stack_status().map_or("unknown", |status| status.as_str());
        match status {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" => return Ok(stack),
            waiting if waiting.ends_with("_IN_PROGRESS") && Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            _ => bail!(
                "the stores could not be made: {STACK_NAME} is in {status}, {}. {RECOVERY_HINT}",
                stack.stack_status_reason().unwrap_or("for no given reason")
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

/// The service's words when it answered, else the whole chain of causes.
fn call_error<E>(operation: &str, error: E) -> anyhow::Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match error.message() {
        Some(message) => anyhow!("CloudFormation refuses {operation}: {message}. {RECOVERY_HINT}"),
        None => anyhow!("CloudFormation {operation} failed: {}", DisplayErrorContext(error)),
    }
}
