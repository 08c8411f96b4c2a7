//! The system that a command works on: where its queues, bucket, settings and functions are.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;

use crate::lambda::LambdaClient;
use crate::local;
use crate::options::TargetArgs;

/// The outputs of a stack, by name.
pub(crate) type Outputs = BTreeMap<String, String>;

/// A function of the system.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    Ingest,
    Watchdog,
}

/// A running system.
#[derive(Debug)]
pub(crate) struct Target {
    config: SdkConfig,
    location: Location,
}

#[derive(Debug)]
enum Location {
    /// A CloudFormation stack, by name.
    Stack(String),
    /// The data directory of `make run`.
    Local(PathBuf),
}

impl Target {
    /// The system that the arguments name. Restarts the process for a local one.
    ///
    /// # Errors
    /// When the data directory of a local system contains no settings.
    pub(crate) async fn open(args: &TargetArgs) -> Result<Self> {
        let location = if args.local {
            local::enter_environment(&args.data)?;
            Location::Local(args.data.clone())
        } else {
            Location::Stack(args.stack.clone())
        };
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        Ok(Self { config, location })
    }

    pub(crate) fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The outputs of the stack, or of the local stores.
    ///
    /// # Errors
    /// When the stack does not exist or CloudFormation is unavailable.
    pub(crate) async fn outputs(&self) -> Result<Outputs> {
        let name = match &self.location {
            Location::Local(data) => return local::read(&data.join(local::OUTPUTS_FILE)),
            Location::Stack(name) => name,
        };
        let client = aws_sdk_cloudformation::Client::new(&self.config);
        let response = client.describe_stacks().stack_name(name).send().await;
        let response =
            response.map_err(|error| call_error("CloudFormation DescribeStacks", error))?;
        let outputs = response.stacks().iter().flat_map(|stack| stack.outputs());
        let pairs = outputs.map(|o| Some((o.output_key.clone()?, o.output_value.clone()?)));
        Ok(pairs.flatten().collect())
    }

    /// The environment variables of the ingest function.
    ///
    /// # Errors
    /// When the function is not found.
    pub(crate) async fn ingest_settings(&self) -> Result<BTreeMap<String, String>> {
        match &self.location {
            Location::Local(data) => local::read(&data.join(local::SETTINGS_FILE)),
            Location::Stack(_) => {
                let name = self.function_name(Function::Ingest).await?;
                LambdaClient::new(&self.config)?.environment(&name).await
            }
        }
    }

    /// The name under which Lambda invokes a function.
    ///
    /// # Errors
    /// When the stack has no such function.
    pub(crate) async fn function_name(&self, function: Function) -> Result<String> {
        let (logical_id, local_name) = match function {
            Function::Ingest => ("IngestFunction", "ingest"),
            Function::Watchdog => ("WatchdogFunction", "watchdog"),
        };
        let Location::Stack(stack) = &self.location else { return Ok(local_name.to_owned()) };
        let client = aws_sdk_cloudformation::Client::new(&self.config);
        let request = client.describe_stack_resource().stack_name(stack);
        let response = request.logical_resource_id(logical_id).send().await;
        let response =
            response.map_err(|error| call_error("CloudFormation DescribeStackResource", error))?;
        let detail = response.stack_resource_detail.and_then(|d| d.physical_resource_id);
        detail.with_context(|| format!("stack {stack} has no resource {logical_id}"))
    }

    /// What to check when a call fails.
    pub(crate) fn hint(&self) -> String {
        match &self.location {
            Location::Local(data) => {
                format!("is `make run` running with data directory {}?", data.display())
            }
            Location::Stack(name) => {
                format!("stack {name}: check --stack, region and credentials")
            }
        }
    }
}

/// A failed call of an AWS SDK: the message of the service if there was a response, else the
/// causes.
pub(crate) fn call_error<E>(operation: &str, error: E) -> anyhow::Error
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match error.message() {
        Some(message) => anyhow!("{operation} failed: {message}"),
        None => anyhow::Error::new(error).context(format!("{operation} failed")),
    }
}

#[cfg(test)]
mod tests {
    use yaml_serde::Value;

    const TEMPLATE: &str = include_str!("../../template.yaml");

    #[test]
    fn template_has_the_functions_and_outputs_that_commands_use() {
        let template: Value = yaml_serde::from_str(TEMPLATE).unwrap();
        for function in ["IngestFunction", "WatchdogFunction"] {
            assert!(template["Resources"][function].is_mapping(), "{function}");
        }
        for output in ["IngestQueueUrl", "IngestDeadLetterQueueUrl", "ArchiveBucketName"] {
            assert!(template["Outputs"][output].is_mapping(), "{output}");
        }
    }
}
