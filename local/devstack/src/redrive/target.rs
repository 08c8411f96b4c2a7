//! Whose queues and bucket: those of the local system, or those that the environment leads to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aws_config::{BehaviorVersion, SdkConfig};
use serde::Deserialize;

use super::queue::Queue;
use crate::aws;
use crate::settings::Outputs;

/// A system's ingest queue, its dead letters, and its archive bucket.
#[derive(Debug, Clone)]
pub struct RedriveTarget {
    pub(super) queue: Queue,
    pub(super) dead_letters: Queue,
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) bucket: String,
}

impl RedriveTarget {
    /// The system of `devstack run` with this data folder and endpoint port.
    ///
    /// # Errors
    /// When it has never run.
    pub fn local(data: &Path, endpoint_port: u16) -> Result<Self> {
        let outputs = read_outputs(&data.join("outputs.json"))
            .with_context(|| format!("nothing has run in {}: start it first", data.display()))?;
        Self::new(&aws::config(endpoint_port), &outputs)
    }

    /// The system whose outputs are in a file: a JSON object of names and values, or what
    /// `aws cloudformation describe-stacks --query 'Stacks[0].Outputs'` prints. Where AWS is and who asks, the
    /// environment says, as it does to the AWS CLI.
    ///
    /// # Errors
    /// When the file cannot be read or lacks a queue or the bucket.
    pub async fn from_environment(outputs: &Path) -> Result<Self> {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        Self::new(&config, &read_outputs(outputs)?)
            .with_context(|| format!("{} is not of this system", outputs.display()))
    }

    fn new(config: &SdkConfig, outputs: &Outputs) -> Result<Self> {
        let output = |name: &str| {
            outputs.get(name).cloned().with_context(|| format!("the outputs have no {name}"))
        };
        let sqs = aws_sdk_sqs::Client::new(config);
        Ok(Self {
            queue: Queue::new(sqs.clone(), output("IngestQueueUrl")?),
            dead_letters: Queue::new(sqs, output("IngestDeadLetterQueueUrl")?),
            s3: aws_sdk_s3::Client::new(config),
            bucket: output("ArchiveBucketName")?,
        })
    }
}

pub(crate) fn read_outputs(path: &Path) -> Result<Outputs> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} holds no outputs of a stack", path.display()))
}

fn parse(text: &str) -> Result<Outputs> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OutputsFile {
        Flat(BTreeMap<String, String>),
        DescribeStacks(Vec<Output>),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Output {
        output_key: String,
        output_value: String,
    }
    // serde's own words on an untagged enum help nobody.
    match serde_json::from_str(text) {
        Ok(OutputsFile::Flat(outputs)) => Ok(outputs),
        Ok(OutputsFile::DescribeStacks(list)) => {
            Ok(list.into_iter().map(|o| (o.output_key, o.output_value)).collect())
        }
        Err(_) => Err(anyhow!(
            "neither an object of names and values nor a list of OutputKey and OutputValue"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_the_stack_and_as_cloudformation_write_them() {
        let wanted = Outputs::from([("IngestQueueUrl".to_owned(), "u".to_owned())]);
        for text in [
            r#"{"IngestQueueUrl": "u"}"#,
            r#"[{"OutputKey": "IngestQueueUrl", "OutputValue": "u", "Description": "d"}]"#,
        ] {
            assert_eq!(parse(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "1", r#"{"Stacks": []}"#, r#"["u"]"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
