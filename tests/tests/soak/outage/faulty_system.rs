//! A system with proxies between its functions and all AWS endpoints.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use blackbox::system::System;
use devstack::{MetricStore, Options};
use fault_proxy::{FaultPlan, Proxy};
use serde_json::{Value, json};

use super::REDELIVERY_DELAY;

/// A system with injected faults.
pub(super) struct FaultySystem {
    pub(super) system: System,
    /// In the order in which an outage ends: a command that can be stored can be published.
    proxies: [Proxy; 3],
    http: reqwest::Client,
}

impl FaultySystem {
    /// Starts a system without faults.
    pub(super) async fn start(metric_store: MetricStore) -> Result<Self> {
        let proxies = [Proxy::listen(0).await?, Proxy::listen(0).await?, Proxy::listen(0).await?];
        let [iot_data, timestream, endpoint] = &proxies;
        let settings = [
            ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", iot_data),
            ("AWS_ENDPOINT_URL_TIMESTREAM_WRITE", timestream),
            ("AWS_ENDPOINT_URL_TIMESTREAM_QUERY", timestream),
            ("AWS_ENDPOINT_URL", endpoint),
        ];
        let settings = settings.map(|(name, proxy)| (name.to_owned(), proxy.url())).to_vec();
        let visibility_timeout = Some(REDELIVERY_DELAY);
        let options = Options { metric_store, visibility_timeout, settings, ..Options::default() };
        let system = System::start_with(options).await?;
        iot_data.set_upstream(&system.stack.iot_data_url());
        timestream.set_upstream(&system.stack.timestream_url());
        endpoint.set_upstream(&system.stack.endpoint_url());
        Ok(Self { system, proxies, http: reqwest::Client::new() })
    }

    /// Sets the fault plan of all proxies.
    pub(super) fn set_plan(&self, plan: &str) -> Result<()> {
        let plan: FaultPlan = plan.parse()?;
        for proxy in &self.proxies {
            proxy.set_plan(plan.clone());
        }
        Ok(())
    }

    /// The number of calls with a fault.
    pub(super) fn fault_count(&self) -> usize {
        self.faults_by_kind().values().sum()
    }

    pub(super) fn faults_by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut all = BTreeMap::new();
        for (kind, count) in self.proxies.iter().flat_map(|proxy| proxy.stats().faults) {
            *all.entry(kind).or_default() += count;
        }
        all
    }

    /// Messages in the queue, including those in flight.
    pub(super) async fn backlog(&self) -> Result<u64> {
        self.message_count("IngestQueueUrl").await
    }

    /// Messages in the dead letter queue.
    pub(super) async fn dead_letters(&self) -> Result<u64> {
        self.message_count("IngestDeadLetterQueueUrl").await
    }

    pub(super) async fn wait_until_queue_empty(&self) -> Result<()> {
        self.system
            .eventually("an empty queue", || async {
                let held = self.backlog().await?;
                ensure!(held == 0, "{held} messages are in the queue");
                Ok(())
            })
            .await
    }

    async fn message_count(&self, output: &str) -> Result<u64> {
        const COUNT_ATTRIBUTES: [&str; 2] =
            ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let stack = &self.system.stack;
        let url = stack.outputs().get(output).with_context(|| format!("no output {output}"))?;
        // Directly, since the proxies may inject faults.
        let request = self
            .http
            .post(stack.endpoint_url())
            .header("x-amz-target", "AmazonSQS.GetQueueAttributes")
            .header("content-type", "application/x-amz-json-1.0")
            .body(json!({"QueueUrl": url, "AttributeNames": COUNT_ATTRIBUTES}).to_string());
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let counts =
            COUNT_ATTRIBUTES.map(|name| answer["Attributes"][name].as_str()?.parse::<u64>().ok());
        let counts: Option<Vec<u64>> = counts.into_iter().collect();
        Ok(counts.with_context(|| format!("no counts of the queue in {answer}"))?.iter().sum())
    }
}
