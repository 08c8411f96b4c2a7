//! Objects that the error actions of the IoT rules stored in the archive bucket: read, sent to the
//! ingest queue, deleted.
//!
//! Such an object is `{ruleName, topic, base64OriginalPayload, failures, …}`, which ingest accepts.
//! It contains no time of receipt. The redrive adds the modification time of the object and not the
//! current time: a message of last week must not mark its device online, and a sample without a
//! time must have the same time when it is sent twice.

use anyhow::Result;
use aws_sdk_s3::types::Object;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{CONCURRENCY, MoveReport, Redrive, queue};
use crate::target::call_error;

/// The prefix of the objects that the error actions of template.yaml write.
const PREFIX: &str = "undelivered/";

/// Objects in memory at the same time: a hundred of the largest messages are 20 MB.
const PAGE_SIZE: i32 = 100;

pub(super) async fn redrive(redrive: &Redrive) -> Result<MoveReport> {
    let mut total = MoveReport::default();
    let mut after = None;
    loop {
        let objects = list(redrive, after.take()).await?;
        let Some(last) = objects.last() else { return Ok(total) };
        after.clone_from(&last.key);
        let found: Vec<_> = stream::iter(objects)
            .map(|object| read(redrive, object))
            .buffered(CONCURRENCY)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await?;
        send(redrive, found, &mut total).await?;
    }
}

/// The key of an object, and its message or the reason why there is none.
type FetchedObject = (String, Result<String>);

async fn send(redrive: &Redrive, found: Vec<FetchedObject>, total: &mut MoveReport) -> Result<()> {
    let mut keys = Vec::with_capacity(found.len());
    let mut bodies = Vec::with_capacity(found.len());
    for (key, message) in &found {
        match message {
            Ok(body) => {
                keys.push(key);
                bodies.push(body.as_str());
            }
            Err(reason) => {
                total.remaining.insert(key.clone(), reason.to_string());
            }
        }
    }
    let results = redrive.queue.send(&bodies).await?;
    let mut accepted = Vec::with_capacity(keys.len());
    for (key, refusal) in keys.into_iter().zip(results) {
        match refusal {
            None => accepted.push(key),
            Some(reason) => {
                total.remaining.insert(key.clone(), reason);
            }
        }
    }
    total.moved += accepted.len();
    redrive.report_progress(accepted.len());
    stream::iter(accepted)
        .map(Ok)
        .try_for_each_concurrent(CONCURRENCY, |key| delete(redrive, key))
        .await
}

/// A page begins after the last key of the page before; deletions between the two do not matter.
async fn list(redrive: &Redrive, after: Option<String>) -> Result<Vec<Object>> {
    let answer = redrive
        .s3
        .list_objects_v2()
        .bucket(&redrive.bucket)
        .prefix(PREFIX)
        .set_start_after(after)
        .max_keys(PAGE_SIZE)
        .send()
        .await
        .map_err(|error| call_error("S3 ListObjectsV2", error))?;
    Ok(answer.contents.unwrap_or_default())
}

/// `None` when another run has deleted the object.
async fn read(redrive: &Redrive, object: Object) -> Result<Option<FetchedObject>> {
    let Some(key) = object.key else { return Ok(None) };
    let answer = redrive.s3.get_object().bucket(&redrive.bucket).key(&key).send().await;
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

/// The message of an object that was written at `modified_ms`. Other content is sent unchanged:
/// ingest quarantines it.
fn with_received_at(text: &str, modified_ms: Option<i64>) -> String {
    match (serde_json::from_str(text), modified_ms) {
        (Ok(Value::Object(mut fields)), Some(ms)) => {
            fields.entry("received_at").or_insert_with(|| ms.into());
            Value::Object(fields).to_string()
        }
        _ => text.to_owned(),
    }
}

async fn delete(redrive: &Redrive, key: &str) -> Result<()> {
    redrive
        .s3
        .delete_object()
        .bucket(&redrive.bucket)
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
    fn modification_time_becomes_the_missing_time_of_receipt() {
        let object = json!({"topic": "iot/a/hello", "base64OriginalPayload": "e30="});
        let sent = with_received_at(&object.to_string(), Some(5));
        let expected =
            json!({"topic": "iot/a/hello", "base64OriginalPayload": "e30=", "received_at": 5});
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), expected);
        assert_eq!(with_received_at(&sent, Some(6)), sent);
        for text in ["nonsense", "[1]"] {
            assert_eq!(with_received_at(text, Some(5)), text);
        }
    }

    #[test]
    fn every_error_action_of_the_template_writes_below_the_redrive_prefix() {
        let template: yaml_serde::Value =
            yaml_serde::from_str(include_str!("../../../template.yaml")).unwrap();
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
