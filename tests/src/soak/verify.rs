//! What is there, held against what must be there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::{self, Expected, ExpectedDevice, ExpectedMessage};
use super::play::Played;
use super::rest::Api;
use super::story::{Character, Presence, Registration};
use super::world::World;

const ALL_TIME: &str = "start=1900-01-01T00:00:00Z&stop=2200-01-01T00:00:00Z";

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

/// The fleet in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fleet {
    devices: i64,
    by_connection: BTreeMap<String, i64>,
    unacknowledged: i64,
}

impl Fleet {
    pub(super) async fn read(api: &mut Api) -> Result<Self> {
        let stats = api.get("/api/stats").await?;
        let count = |value: &Value| value.as_i64().unwrap_or(-1);
        let by_connection = stats["device_by_connection"].as_array().cloned().unwrap_or_default();
        let by_connection = by_connection.iter().map(|row| {
            (row["status"].as_str().unwrap_or_default().to_owned(), count(&row["count"]))
        });
        Ok(Self {
            devices: count(&stats["total_devices"]),
            by_connection: by_connection.collect(),
            unacknowledged: count(&stats["unacknowledged_alerts"]),
        })
    }

    /// What has been added since `before`; what has not changed is left out.
    fn since(&self, before: &Self) -> Self {
        let mut by_connection = self.by_connection.clone();
        for (connection, count) in &before.by_connection {
            *by_connection.entry(connection.clone()).or_default() -= count;
        }
        by_connection.retain(|_, count| *count != 0);
        Self {
            devices: self.devices - before.devices,
            by_connection,
            unacknowledged: self.unacknowledged - before.unacknowledged,
        }
    }
}

/// Compares all that a seed has left behind; `before` is the fleet before it.
pub(super) async fn verify(world: &mut World, played: &Played, before: &Fleet) -> Result<Found> {
    let expected = model::expected(&played.cast, &played.orders, &played.story);
    let mut found = Found::default();
    let mut fleet = Fleet::default();
    for (character, device) in played.cast.devices.iter().zip(&expected.devices) {
        let mut of_device = OfDevice { character, device, api: &mut world.api, found: &mut found };
        of_device.archive().await?;
        of_device.points().await?;
        fleet.unacknowledged += of_device.alerts().await?;
        of_device.registry().await?;
        of_device.commands(played).await?;
        if character.registration != Registration::Never {
            fleet.devices += 1;
            let connection = connection(device).to_owned();
            *fleet.by_connection.entry(connection).or_default() += 1;
        }
    }
    quarantine(world, played, &expected, &mut found).await?;
    outboxes(world, played, &mut found).await?;
    let after = Fleet::read(&mut world.api).await?.since(before);
    found.compare("fleet", "statistics", &fleet, &after);
    Ok(found)
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

/// The word of the API.
fn connection(device: &ExpectedDevice) -> &'static str {
    match device.presence.is_there {
        None => "unknown",
        Some(true) => "online",
        Some(false) => "offline",
    }
}

/// The comparison of one device.
struct OfDevice<'a> {
    character: &'a Character,
    device: &'a ExpectedDevice,
    api: &'a mut Api,
    found: &'a mut Found,
}

#[derive(Deserialize)]
struct Line {
    mid: String,
    device_id: String,
    category: String,
    topic: String,
    received_at: Timestamp,
    payload: Value,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    size: usize,
}

#[derive(Deserialize)]
struct Point {
    time: Timestamp,
    metric: String,
    value: f64,
    #[serde(default)]
    unit: Option<String>,
}

#[derive(Deserialize)]
struct Alert {
    alert_type: String,
    created_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Command {
    cmd_id: Uuid,
    status: String,
    ack_detail: Option<String>,
    #[serde(default)]
    ota: Option<Upgrade>,
}

#[derive(Deserialize)]
struct Upgrade {
    state: String,
    progress_pct: Option<f64>,
}

impl OfDevice<'_> {
    fn path(&self, suffix: &str) -> String {
        format!("/api/devices/{}{suffix}", self.character.id)
    }

    fn difference(&mut self, what: impl std::fmt::Display) {
        self.found.difference(&self.character.id, what);
    }

    async fn list<T: for<'de> Deserialize<'de>>(&mut self, suffix: &str) -> Result<Vec<T>> {
        let path = self.path(suffix);
        let items = self.api.list(&path).await?;
        items.into_iter().map(|item| parse(item, &path)).collect()
    }

    /// Every message readable once, as it was said, and listed once.
    async fn archive(&mut self) -> Result<()> {
        let path = self.path("/raw-data");
        let lines = self.api.lines(&path).await?;
        let lines = lines.into_iter().map(|line| parse::<Line>(line, &path));
        let mut lines: Vec<Line> = lines.collect::<Result<_>>()?;
        let files: Vec<File> = self.list("/raw-data").await?;
        self.found.totals.messages.add(self.device.messages.len(), lines.len());

        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for message in &self.device.messages {
            let Some(place) = lines.iter().position(|line| is_it(message, line)) else {
                let payload = &message.payload;
                self.difference(format!("message is missing: {} {payload}", message.topic));
                continue;
            };
            let line = lines.swap_remove(place);
            if line.device_id != self.character.id
                || line.category != message.category
                || line.topic != message.topic
                || !message.received_at.contains(&line.received_at)
            {
                let (topic, at) = (&line.topic, line.received_at);
                self.difference(format!("message {} says topic {topic}, receipt {at}", line.mid));
            }
            let ts = message.identity.as_ref().map_or(line.received_at, |(ts, _)| *ts);
            names.insert(
                file_name(&self.character.id, message.category, ts, &line.mid),
                message.size,
            );
        }
        for line in lines {
            self.difference(format!(
                "message is there that should not be: {} {}",
                line.mid, line.payload
            ));
        }
        for File { filename, size } in files {
            match names.remove(&filename) {
                Some(expected) if expected == size => {}
                Some(expected) => {
                    self.difference(format!("{filename} has {size} bytes, not {expected}"))
                }
                None => {
                    self.difference(format!("{filename} is listed and should not be, or twice"))
                }
            }
        }
        for name in names.into_keys() {
            self.difference(format!("{name} is not listed"));
        }
        Ok(())
    }

    /// Every point once, with the value of the greatest claim.
    async fn points(&mut self) -> Result<()> {
        let found: Vec<Point> = self.list(&format!("/metrics?{ALL_TIME}")).await?;
        self.found.totals.points.add(self.device.points.len(), found.len());
        let row = |time: &Timestamp, metric: &str, value: f64, unit: Option<&str>| {
            format!("{time} {metric} {value} {}", unit.unwrap_or("-"))
        };
        let expected: Vec<String> = self
            .device
            .points
            .iter()
            .map(|(key, point)| row(&key.time, key.metric, point.value, point.unit))
            .collect();
        let found: Vec<String> = found
            .iter()
            .map(|point| row(&point.time, &point.metric, point.value, point.unit.as_deref()))
            .collect();
        if expected != found {
            let (missing, surplus) = (without(&expected, &found), without(&found, &expected));
            self.difference(format!("points are missing: {missing:?}, are there: {surplus:?}"));
        }
        let latest: Vec<Point> = self.list("/metrics/latest").await?;
        let latest: BTreeMap<_, _> = latest
            .iter()
            .map(|p| (p.metric.as_str(), row(&p.time, &p.metric, p.value, p.unit.as_deref())))
            .collect();
        let expected = self.device.latest();
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(metric, (key, p))| (metric, row(&key.time, metric, p.value, p.unit)))
            .collect();
        self.found.compare(&self.character.id, "latest points", &expected, &latest);
        Ok(())
    }

    /// Each absence is one alert. How many there are.
    async fn alerts(&mut self) -> Result<i64> {
        let mut alerts: Vec<Alert> = self.list("/alerts").await?;
        let count = alerts.len();
        alerts.reverse(); // oldest first
        let presence = &self.device.presence;
        let is_watched = self.character.registration == Registration::Before;
        let absences = if is_watched { presence.absences.as_slice() } else { &[] };
        let told: Vec<_> =
            alerts.iter().map(|a| (&a.alert_type, a.created_at, a.resolved_at)).collect();
        let told = format!("alerts {told:?} for absences {absences:?}");
        let began: BTreeSet<_> = alerts.iter().map(|alert| alert.created_at).collect();
        let fits = match self.character.presence {
            Presence::Steady | Presence::InActs => {
                alerts.len() == absences.len()
                    && alerts.iter().zip(absences).all(|(alert, (gone, back))| {
                        gone.contains(&alert.created_at)
                            && match alert.resolved_at {
                                None => back.is_empty(),
                                Some(at) => back.contains(&at),
                            }
                    })
            }
            // Of comings and goings that nobody put in order, not each needs to be noticed. But none twice,
            // and none that was not; and one is open if it is gone, else none.
            Presence::Flapping => {
                let open = alerts.iter().filter(|alert| alert.resolved_at.is_none()).count();
                let is_gone = is_watched && presence.is_there == Some(false);
                began.len() == alerts.len()
                    && open == usize::from(is_gone)
                    && began.iter().all(|at| absences.iter().any(|(gone, _)| gone.contains(at)))
            }
        };
        if !fits || alerts.iter().any(|alert| alert.alert_type != "device_offline") {
            self.difference(told);
        }
        let expected = match self.character.presence {
            Presence::Flapping if fits => count,
            _ => absences.len(),
        };
        self.found.totals.alerts.add(expected, count);
        Ok(i64::try_from(count)?)
    }

    /// What the registry says.
    async fn registry(&mut self) -> Result<()> {
        let path = self.path("");
        let answer = self.api.send("GET", &path, "application/json", None).await?;
        if self.character.registration == Registration::Never {
            if answer.status != 404 {
                self.difference(format!("is not registered, and {path} is {}", answer.body));
            }
            return Ok(());
        }
        let row = answer.json()?;
        let said = (row["connection_status"].as_str(), row["fw_version"].as_str());
        let expected = (Some(connection(self.device)), self.device.fw_version.as_deref());
        let last_seen = row["last_seen"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let seen = self.device.presence.last_seen;
        let fits = match (last_seen, seen) {
            (None, None) => true,
            (Some(at), Some((first, last))) => first <= at && at <= last,
            _ => false,
        };
        let whose = self.character.id.clone();
        self.found.compare(&whose, "connection and firmware", &expected, &said);
        if !fits {
            self.difference(format!("was seen at {last_seen:?}, expected {seen:?}"));
        }
        Ok(())
    }

    /// Each command has an answer that was given, and the configuration is what was accepted.
    async fn commands(&mut self, played: &Played) -> Result<()> {
        let commands: Vec<Command> = self.list("/commands").await?;
        self.found.totals.commands.add(self.device.commands.len(), commands.len());
        let mut commands: HashMap<Uuid, Command> =
            commands.into_iter().map(|command| (command.cmd_id, command)).collect();
        let mut accepted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (order, expected) in &self.device.commands {
            let Some(command) = commands.remove(&played.commands[*order]) else {
                self.difference(format!("command {order} is not there"));
                continue;
            };
            let said = (command.status.as_str(), command.ack_detail.clone());
            let fits = match expected.answers.as_slice() {
                [] => said == ("pending", None),
                answers => answers.contains(&said),
            };
            if !fits {
                self.difference(format!(
                    "command {order} is {said:?}, expected {:?}",
                    expected.answers
                ));
            }
            let upgrade = command.ota.as_ref().map(|ota| (ota.state.as_str(), ota.progress_pct));
            let whose = self.character.id.clone();
            self.found.compare(&whose, "upgrade", &expected.upgrade, &upgrade);
            let order = &played.orders[*order];
            if command.status == "accepted" && order.cmd == "update_config" {
                for (key, value) in order.params.as_object().into_iter().flatten() {
                    accepted.entry(key.clone()).or_default().push(value.clone());
                }
            }
        }
        for id in commands.into_keys() {
            self.difference(format!("command {id} is there that nobody has given"));
        }
        if self.character.registration == Registration::Before {
            let config = self.api.get(&self.path("/config")).await?;
            let config = config.as_object().cloned().unwrap_or_default();
            let fits = config.len() == accepted.len()
                && config.iter().all(|(key, value)| {
                    accepted.get(key).is_some_and(|values| values.contains(value))
                });
            if !fits {
                self.difference(format!("configuration {config:?}, accepted was {accepted:?}"));
            }
        }
        Ok(())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value, path: &str) -> Result<T> {
    let text = value.to_string();
    serde_json::from_value(value).with_context(|| format!("{path} answers {text}"))
}

fn is_it(message: &ExpectedMessage, line: &Line) -> bool {
    match &message.identity {
        Some((_, identity)) => line.mid == *identity && line.payload == message.payload,
        None => message.received_at.contains(&line.received_at) && line.payload == message.payload,
    }
}

fn file_name(device: &str, category: &str, ts: Timestamp, mid: &str) -> String {
    let time = ts.strftime("%Y%m%dT%H%M%S.%9f");
    format!("{device}/{category}/{time}Z-{mid}.json")
}

/// The rows of `a` that are not in `b`, as often as they are missing.
fn without(a: &[String], b: &[String]) -> Vec<String> {
    let mut left: HashMap<&String, usize> = HashMap::new();
    for row in b {
        *left.entry(row).or_default() += 1;
    }
    let missing = a.iter().filter(|row| match left.get_mut(*row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    missing.cloned().collect()
}

/// Each message that could not be read once, byte for byte.
async fn quarantine(
    world: &mut World,
    played: &Played,
    expected: &Expected,
    found: &mut Found,
) -> Result<()> {
    let from = super::story::begin(played.cast.seed);
    let mut count = 0;
    let mut missing: BTreeMap<(String, Vec<u8>), &BTreeSet<Timestamp>> =
        expected.quarantine.iter().map(|(key, at)| (key.clone(), at)).collect();
    for entry in entries_since(&mut world.api, from).await? {
        let path = format!("/api/quarantine/{}", entry.id);
        if !entry.topic.is_empty() && !is_of(played, entry.topic.as_bytes()) {
            continue;
        }
        let bytes = world.api.bytes(&path).await?;
        if entry.topic.is_empty() && !is_of(played, &bytes) {
            continue;
        }
        count += 1;
        match missing.remove(&(entry.topic.clone(), bytes)) {
            Some(receipts) if receipts.contains(&entry.received_at) => {}
            Some(receipts) => found.difference(
                "quarantine",
                format!("{} came at {:?}, not {}", entry.id, receipts, entry.received_at),
            ),
            None => found.difference(
                "quarantine",
                format!("{} on {:?} is there twice, or should not be", entry.id, entry.topic),
            ),
        }
    }
    for ((topic, payload), _) in missing {
        let text = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
        found.difference("quarantine", format!("{text:?} on {topic:?} is missing"));
    }
    found.totals.quarantined.add(expected.quarantine.len(), count);
    Ok(())
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    topic: String,
    received_at: Timestamp,
}

/// Whether bytes name a device of the cast: other seeds leave entries of the same time.
fn is_of(played: &Played, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    played.cast.devices.iter().any(|character| text.contains(&character.id))
}

/// All entries from a time on.
async fn entries_since(api: &mut Api, from: Timestamp) -> Result<Vec<Entry>> {
    let path = "/api/quarantine";
    let entries = api.list_until(path, |item| {
        item["received_at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok())
            .is_some_and(|at| at < from)
    });
    entries.await?.into_iter().map(|item| parse(item, path)).collect()
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
        let Some(document) = row["Item"]["document"]["S"].as_str() else { continue };
        let document: Value = serde_json::from_str(document)?;
        if document["outbox"].as_array().is_none_or(|outbox| !outbox.is_empty()) {
            found.difference(&character.id, format!("its outbox is {}", document["outbox"]));
        }
    }
    Ok(())
}
