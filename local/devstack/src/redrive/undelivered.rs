//! What the rules' error actions have left in the archive bucket: read, sent to the ingest queue, deleted.
//!
//! Such an object is `{ruleName, topic, base64OriginalPayload, failures, …}`, which ingest reads. It lacks the time of
//! receipt. The object's own stands in for it, and not that of the redrive: a message of last week must not say
//! that its device is online, and a reading without a time of its own must be the same one when it is sent
//! twice.

use anyhow::Result;
use aws_sdk_s3::types::Object;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::target::RedriveTarget;
use super::{CONCURRENCY, MoveReport, call_error, queue};

/// Where the error actions of template.yaml put what a rule could not deliver.
const PREFIX: &str = "undelivered/";

/// Objects in hand at once: a hundred of the largest messages are 20 MB.
const PAGE_SIZE: i32 = 100;

pub(super) async fn redrive(target: &RedriveTarget) -> Result<MoveReport> {
    let mut all = MoveReport::default();
    let mut after = None;
    loop {
        let objects = list(target, after.take()).await?;
        let Some(last) = objects.last() else { return Ok(all) };
        after.clone_from(&last.key);
        let found: Vec<_> = stream::iter(objects)
            .map(|object| read(target, object))
            .buffered(CONCURRENCY)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await?;
        send(target, found, &mut all).await?;
    }
}

/// The key of an object, and the message that it makes, or why it makes none.
type FetchedObject = (String, Result<String>);

async fn send(
    target: &RedriveTarget,
    found: Vec<FetchedObject>,
    all: &mut MoveReport,
) -> Result<()> {
    let mut keys = Vec::with_capacity(found.len());
    let mut bodies = Vec::with_capacity(found.len());
    for (key, message) in &found {
        match message {
            Ok(body) => {
                keys.push(key);
                bodies.push(body.as_str());
            }
            Err(reason) => {
                all.remaining.insert(key.clone(), reason.to_string());
            }
        }
    }
    let results = target.queue.send(&bodies).await?;
    let mut taken = Vec::with_capacity(keys.len());
    for (key, verdict) in keys.into_iter().zip(results) {
        match verdict {
            None => taken.push(key),
            Some(reason) => {
                all.remaining.insert(key.clone(), reason);
            }
        }
    }
    all.moved += taken.len();
    stream::iter(taken)
        .map(Ok)
        .try_for_each_concurrent(CONCURRENCY, |key| delete(target, key))
        .await
}

/// Each page begins after the last key of the one before, whatever was deleted meanwhile.
async fn list(target: &RedriveTarget, after: Option<String>) -> Result<Vec<Object>> {
    let answer = target
        .s3
        .list_objects_v2()
        .bucket(&target.bucket)
        .prefix(PREFIX)
        .set_start_after(after)
        .max_keys(PAGE_SIZE)
        .send()
        .await
        .map_err(|error| call_error("S3 ListObjectsV2", error))?;
    Ok(answer.contents.unwrap_or_default())
}

/// None when another run was faster.
async fn read(target: &RedriveTarget, object: Object) -> Result<Option<FetchedObject>> {
    let Some(key) = object.key else { return Ok(None) };
    let answer = target.s3.get_object().bucket(&target.bucket).key(&key).send().await;
    let body = match answer {
        Ok(answer) => answer.body.collect().await?.into_bytes(),
        Err(error) if error.as_service_error().is_some_and(|e| e.is_no_such_key()) => {
            return Ok(None);
        }
        Err(error) => return Err(call_error("S3 GetObject", error)),
    };
    let modified = object.last_modified.and_then(|time| time.to_millis().ok());
    let message = queue::message_body(&body).map(|text| with_received_at(text, modified));
    Ok(Some((key, message)))
}

/// The message of an object that was written at `modified_ms`. What is no object of an error action goes as
/// it is: ingest puts it into quarantine, where somebody can look at it.
fn with_received_at(text: &str, modified_ms: Option<i64>) -> String {
    match (serde_json::from_str(text), modified_ms) {
        (Ok(Value::Object(mut fields)), Some(ms)) => {
            fields.entry("received_at").or_insert_with(|| ms.into());
            Value::Object(fields).to_string()
        }
        _ => text.to_owned(),
    }
}

async fn delete(target: &RedriveTarget, key: &str) -> Result<()> {
    target
        .s3
        .delete_object()
        .bucket(&target.bucket)
        .key(key)
        .send()
        .await
        .map_err(|error| call_error("S3 DeleteObject", error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_of_receipt_is_the_objects_unless_it_has_one() {
        let object = json!({"topic": "iot/a/hello", "base64OriginalPayload": "e30="});
        let sent = with_received_at(&object.to_string(), Some(5));
        let wanted =
            json!({"topic": "iot/a/hello", "base64OriginalPayload": "e30=", "received_at": 5});
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), wanted);
        assert_eq!(with_received_at(&sent, Some(6)), sent);
        for text in ["nonsense", "[1]"] {
            assert_eq!(with_received_at(text, Some(5)), text);
        }
    }

    #[test]
    fn every_rule_of_the_template_leaves_what_it_cannot_deliver_where_redrive_looks() {
        let template: yaml_serde::Value =
            yaml_serde::from_str(include_str!("../../../../template.yaml")).unwrap();
        let resources = template["Resources"].as_mapping().unwrap();
        let rules: Vec<_> = resources
            .values()
            .filter(|resource| resource["Type"].as_str() == Some("AWS::IoT::TopicRule"))
            .collect();
        assert!(!rules.is_empty());
        for rule in rules {
            let action = &rule["Properties"]["TopicRulePayload"]["ErrorAction"]["S3"];
            let key = action["Key"].as_str().unwrap();
            assert!(key.starts_with(&format!("{PREFIX}${{")), "{key}");
        }
    }
}
