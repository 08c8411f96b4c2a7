//! The parts of a SAM template that the emulator reads. Properties that can be intrinsic functions
//! are [`Value`]s, whose tags `yaml_serde` keeps.

use std::collections::BTreeMap;

use serde::Deserialize;
use yaml_serde::Value;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Document {
    #[serde(default)]
    pub(super) globals: Globals,
    pub(super) resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Globals {
    #[serde(default)]
    pub(super) function: GlobalFunction,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GlobalFunction {
    pub(super) timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Resource {
    pub(super) r#type: String,
    #[serde(default)]
    pub(super) properties: Value,
    #[serde(default)]
    pub(super) metadata: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TopicRuleProperties {
    pub(super) topic_rule_payload: TopicRulePayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TopicRulePayload {
    pub(super) sql: Value,
    pub(super) actions: Vec<BTreeMap<String, Value>>,
    #[serde(default)]
    pub(super) rule_disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SqsAction {
    pub(super) queue_url: Value,
    #[serde(default)]
    pub(super) use_base64: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FunctionProperties {
    pub(super) timeout: Option<u64>,
    #[serde(default)]
    pub(super) events: BTreeMap<String, Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    pub(super) r#type: String,
    #[serde(default)]
    pub(super) properties: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SqsEvent {
    pub(super) queue: Value,
    pub(super) batch_size: Option<usize>,
    #[serde(default = "enabled")]
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) function_response_types: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ScheduleEvent {
    pub(super) schedule: Value,
    #[serde(default = "enabled")]
    pub(super) enabled: bool,
    pub(super) state: Option<String>,
}

fn enabled() -> bool {
    true
}
