//! The parts of template.yaml that the emulator implements: topic filters, queue, event sources and
//! schedules.
//!
//! The emulator has no routing configuration of its own: it reads the SAM template that is deployed
//! to AWS. What it cannot do as AWS does is an error that names the resource.

mod intrinsic;
mod rule_sql;
mod schema;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use yaml_serde::Value;

use self::schema::{
    Document, FunctionProperties, Resource, ScheduleEvent, SqsAction, SqsEvent, TopicRuleProperties,
};

/// The outputs of the stores stack by name, to which `!GetAtt Stores.Outputs.NAME` refers.
pub type Outputs = BTreeMap<String, String>;

/// The default timeout of Lambda.
const DEFAULT_FUNCTION_TIMEOUT_S: u64 = 3;

/// The resources of the template that the emulator implements.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// The MQTT topic filters of the topic rules, in the order of the template.
    pub topic_filters: Vec<String>,
    /// The URL of the queue that the topic rules send to.
    pub queue_url: String,
    /// The event source mappings from queues.
    pub event_sources: Vec<EventSource>,
    /// The schedules.
    pub schedules: Vec<Schedule>,
}

/// An SQS event source mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSource {
    /// The function to invoke.
    pub function: Function,
    /// The ARN of the queue.
    pub queue_arn: String,
    /// The maximum number of records in an invocation, if it is set.
    pub batch_size: Option<usize>,
    /// Whether the response of the function lists the records that failed.
    pub reports_item_failures: bool,
}

/// A schedule of EventBridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The logical ids of function and event, of which the name of the EventBridge rule consists.
    pub name: String,
    /// The function to invoke.
    pub function: Function,
    /// The time between invocations.
    pub interval: Duration,
}

/// A function of the template.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The name at the Invoke API, which is the binary that the function is built from.
    pub name: String,
    /// The timeout of an invocation.
    pub timeout: Duration,
}

/// The reason why the emulator cannot use a template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The text is not YAML, or not a template.
    #[error("the template cannot be read: {0}")]
    Syntax(#[from] yaml_serde::Error),
    /// The emulator does not support a resource.
    #[error("{resource}: {problem}")]
    Resource {
        /// The logical id.
        resource: String,
        /// What is not supported, and what would be.
        problem: String,
    },
    /// No `AWS::IoT::TopicRule` exists, so no message would arrive.
    #[error(
        "the template has no AWS::IoT::TopicRule with an Sqs action, so there is no topic to subscribe to"
    )]
    NoTopicRule,
}

impl Routing {
    /// Parses a template. Its `!GetAtt` and `!Ref` expressions are replaced by `outputs`.
    ///
    /// # Errors
    ///
    /// If the text is not a template, or has a resource that the emulator does not implement as AWS
    /// does.
    pub fn read(template: &str, outputs: &Outputs) -> Result<Self, TemplateError> {
        let document: Document = yaml_serde::from_str(template)?;
        let mut rules = Vec::new();
        let mut event_sources = Vec::new();
        let mut schedules = Vec::new();
        for (id, resource) in &document.resources {
            let result = match resource.r#type.as_str() {
                "AWS::IoT::TopicRule" => topic_rule(resource, outputs).map(|rule| {
                    rules.extend(rule.map(|(filter, queue)| (id, filter, queue)));
                }),
                "AWS::Serverless::Function" => {
                    function_events(id, resource, document.globals.function.timeout, outputs).map(
                        |(sources, clocks)| {
                            event_sources.extend(sources);
                            schedules.extend(clocks);
                        },
                    )
                }
                _ => Ok(()),
            };
            result.map_err(|problem| TemplateError::Resource { resource: id.clone(), problem })?;
        }
        let (topic_filters, queue_url) = single_queue(rules)?;
        Ok(Self { topic_filters, queue_url, event_sources, schedules })
    }

    /// Replaces the timeouts of all functions.
    pub(crate) fn override_timeouts(&mut self, timeout: Duration) {
        let sources = self.event_sources.iter_mut().map(|source| &mut source.function);
        let schedules = self.schedules.iter_mut().map(|schedule| &mut schedule.function);
        for function in sources.chain(schedules) {
            function.timeout = timeout;
        }
    }
}

/// Returns the queue that all rules send to. Only one is possible, because the emulator
/// acknowledges to the broker what that queue has accepted.
fn single_queue(
    rules: Vec<(&String, String, String)>,
) -> Result<(Vec<String>, String), TemplateError> {
    let Some((first, _, queue)) = rules.first().cloned() else {
        return Err(TemplateError::NoTopicRule);
    };
    if let Some((other, ..)) = rules.iter().find(|(.., url)| *url != queue) {
        return Err(TemplateError::Resource {
            resource: (*other).clone(),
            problem: format!("sends to another queue than {first}; only one queue is supported"),
        });
    }
    let filters = rules.into_iter().map(|(_, filter, _)| filter).collect();
    Ok((filters, queue))
}

/// Returns the topic filter and the queue of a rule, or `None` if it is disabled.
fn topic_rule(resource: &Resource, outputs: &Outputs) -> Result<Option<(String, String)>, String> {
    let TopicRuleProperties { topic_rule_payload: payload } =
        deserialize("Properties", &resource.properties)?;
    if payload.rule_disabled {
        return Ok(None);
    }
    let sql = intrinsic::resolve(&payload.sql, outputs).map_err(|e| format!("Sql: {e}"))?;
    let filter = rule_sql::topic_filter(&sql)?;
    let [action] = payload.actions.as_slice() else {
        return Err("only rules with exactly one action, of type Sqs, are supported".to_owned());
    };
    let Some(sqs) = action.get("Sqs") else {
        return Err(format!(
            "action {} is not supported, only Sqs",
            action.keys().cloned().collect::<Vec<_>>().join(", ")
        ));
    };
    let action: SqsAction = deserialize("Sqs", sqs)?;
    if action.use_base64 {
        return Err("Sqs.UseBase64 must be false: the rule's SQL encodes the payload".to_owned());
    }
    let queue =
        intrinsic::resolve(&action.queue_url, outputs).map_err(|e| format!("Sqs.QueueUrl: {e}"))?;
    Ok(Some((filter, queue)))
}

type Events = (Vec<EventSource>, Vec<Schedule>);

fn function_events(
    id: &str,
    resource: &Resource,
    default_timeout: Option<u64>,
    outputs: &Outputs,
) -> Result<Events, String> {
    let properties: FunctionProperties = deserialize("Properties", &resource.properties)?;
    let timeout = properties.timeout.or(default_timeout);
    let function = || {
        Ok::<_, String>(Function {
            name: binary_name(&resource.metadata)?,
            timeout: Duration::from_secs(timeout.unwrap_or(DEFAULT_FUNCTION_TIMEOUT_S)),
        })
    };
    let mut sources = Vec::new();
    let mut schedules = Vec::new();
    for (name, event) in &properties.events {
        let within = |problem: String| format!("event {name}: {problem}");
        match event.r#type.as_str() {
            "SQS" => {
                let sqs: SqsEvent = deserialize("Properties", &event.properties).map_err(within)?;
                if sqs.enabled {
                    sources.push(EventSource {
                        function: function()?,
                        queue_arn: intrinsic::resolve(&sqs.queue, outputs)
                            .map_err(|e| within(format!("Queue: {e}")))?,
                        batch_size: sqs.batch_size,
                        reports_item_failures: sqs
                            .function_response_types
                            .iter()
                            .any(|kind| kind == "ReportBatchItemFailures"),
                    });
                }
            }
            "Schedule" => {
                let event: ScheduleEvent =
                    deserialize("Properties", &event.properties).map_err(within)?;
                if event.enabled && event.state.as_deref() != Some("DISABLED") {
                    let rate = intrinsic::resolve(&event.schedule, outputs)
                        .map_err(|e| within(format!("Schedule: {e}")))?;
                    schedules.push(Schedule {
                        name: format!("{id}{name}"),
                        function: function()?,
                        interval: parse_rate(&rate).map_err(within)?,
                    });
                }
            }
            // The HTTP routes are served by the gateway.
            _ => {}
        }
    }
    Ok((sources, schedules))
}

fn binary_name(metadata: &Value) -> Result<String, String> {
    metadata
        .get("BuildProperties")
        .and_then(|properties| properties.get("Binary"))
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| {
            "Metadata.BuildProperties.Binary is missing: it is the name that the function is invoked by"
                .to_owned()
        })
}

/// Parses a `rate(…)` expression of EventBridge.
fn parse_rate(expression: &str) -> Result<Duration, String> {
    let problem = || {
        format!(
            "Schedule \"{expression}\": only rate(N minutes|hours|days) is supported, not cron(…)"
        )
    };
    let (value, unit) = expression
        .trim()
        .strip_prefix("rate(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inner| inner.trim().split_once(' '))
        .ok_or_else(problem)?;
    let seconds = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        _ => return Err(problem()),
    };
    match value.parse::<u64>() {
        Ok(value) if value > 0 => Ok(Duration::from_secs(value.saturating_mul(seconds))),
        _ => Err(problem()),
    }
}

fn deserialize<'de, T: Deserialize<'de>>(what: &str, value: &'de Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
