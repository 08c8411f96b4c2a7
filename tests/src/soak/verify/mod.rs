//! What is there, held against what must be there.

mod alerts;
mod commands;
mod device;
mod fleet;
mod messages;
mod quarantine;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use self::device::OfDevice;
pub(super) use self::fleet::Fleet;
use super::model::{self, When};
use super::play::Played;
use super::world::World;

/// What a comparison has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// One line each; none if all is well.
    pub(super) differences: Vec<String>,
    pub(super) totals: Totals,
}

/// What was expected and what was there, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: Both,
    pub(super) points: Both,
    pub(super) quarantined: Both,
    pub(super) alerts: Both,
    pub(super) commands: Both,
}

/// Expected and found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Both {
    pub(super) expected: usize,
    pub(super) found: usize,
}

impl Both {
    fn add(&mut self, expected: usize, found: usize) {
        self.expected += expected;
        self.found += found;
    }
}

impl Found {
    fn difference(&mut self, whose: &str, what: impl std::fmt::Display) {
        self.differences.push(format!("{whose}: {what}"));
    }

    fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        whose: &str,
        what: &str,
        expected: &T,
        found: &T,
    ) {
        if expected != found {
            self.difference(whose, format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }
}

/// Compares all that a seed has left behind so far; `before` is the fleet before it.
pub(super) async fn verify(
    world: &mut World,
    played: &Played,
    before: &Fleet,
    when: When,
) -> Result<Found> {
    let expected = model::expected(&played.cast, &played.orders, &played.story, when);
    let mut found = Found::default();
    let mut fleet = Fleet::default();
    for (character, device) in played.cast.devices.iter().zip(&expected.devices) {
        let mut of_device =
            OfDevice { character, device, when, api: &mut world.api, found: &mut found };
        of_device.archive().await?;
        of_device.points().await?;
        fleet.unacknowledged += of_device.alerts().await?;
        of_device.registry().await?;
        of_device.commands(played).await?;
        if character.registration != super::story::Registration::Never {
            fleet.devices += 1;
            let connection = device::connection(device).to_owned();
            *fleet.by_connection.entry(connection).or_default() += 1;
        }
    }
    quarantine::quarantine(world, played, &expected, &mut found).await?;
    outboxes(world, played, &mut found).await?;
    let after = Fleet::read(&mut world.api).await?.since(before);
    found.compare("fleet", "statistics", &fleet, &after);
    Ok(found)
}

/// Nothing is left to do. Looked up in the table, since no client sees it.
async fn outboxes(world: &World, played: &Played, found: &mut Found) -> Result<()> {
    let table = &world.stack.settings()["STATE_TABLE"];
    let http = reqwest::Client::new();
    for character in &played.cast.devices {
        let key = json!({"TableName": table, "Key": {"device_id": {"S": character.id}}});
        let answer = http
            .post(world.stack.endpoint_url())
            .header("x-amz-target", "DynamoDB_20120810.GetItem")
            .json(&key);
        let row: Value = answer.send().await?.json().await?;
        let document = row["Item"]["document"]["S"].as_str().context("a device without a state")?;
        let outbox = serde_json::from_str::<Value>(document)?["outbox"].take();
        // The end of an alert is told when its hold-down is over, which is later than this.
        let is_done = |effect: &Value| effect["effect"] == "notify";
        if outbox.as_array().is_none_or(|effects| !effects.iter().all(is_done)) {
            found.difference(&character.id, format!("its outbox is {outbox}"));
        }
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value, path: &str) -> Result<T> {
    let text = value.to_string();
    serde_json::from_value(value).with_context(|| format!("{path} answers {text}"))
}
