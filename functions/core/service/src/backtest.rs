//! What a rule would have said of the past: the same machine, over points that are stored.

use meter_domain::id::DeviceId;
use meter_domain::metric::{Point, PointKey};
use meter_domain::rule::{Condition, Line, Patience, Phase, Rule, Sample, Turn};
use meter_domain::time::Timestamp;
use meter_store::{MetricStore, PointQuery, StoreError};
use serde::Serialize;

/// Points that a rehearsal reads at most.
pub const MAX_POINTS: usize = 40_000;

/// Points of one read.
const PAGE: usize = 10_000;

/// Reads at most: a page of points may be short.
const MAX_PAGES: usize = 20;

/// Turns that a rehearsal tells of at most.
const MAX_EVENTS: usize = 1_000;

/// A turn that there would have been.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// `opened`, `reopened` or `resolved`.
    pub event: &'static str,
    /// When, by the device's clock.
    pub at: Timestamp,
    /// When the cause began.
    pub since: Timestamp,
    /// At which value, or rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What the alert would have said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a rule would have said of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearsal {
    /// How many points of the metric were judged.
    pub points: usize,
    /// Up to where the range was judged; none: to its end.
    pub stopped_at: Option<Timestamp>,
    /// Whether an alert would be open at the end.
    pub open: bool,
    /// Every turn, in order.
    pub events: Vec<Event>,
}

/// Judges the points of a device in [start, stop), as if they had come in order and the rule had been there. For data
/// that does not come the device's clock stands in for that of receipt.
pub async fn rehearse<T: MetricStore>(
    store: &T,
    rule: &Rule,
    device_id: &DeviceId,
    (start, stop): (Timestamp, Timestamp),
    hold_down_s: u32,
) -> Result<Rehearsal, StoreError> {
    let mut stage = Stage::new(rule, device_id, hold_down_s);
    let mut after: Option<PointKey> = None;
    let mut stopped_at = None;
    for page in 1.. {
        let query = PointQuery {
            device_id: device_id.clone(),
            start,
            stop,
            metric: Some(rule.metric.clone()),
            after: after.take(),
            limit: PAGE.min(MAX_POINTS - stage.points),
        };
        let answer = store.points(&query).await?;
        for point in &answer.points {
            stage.judge(point);
        }
        let Some(next) = answer.next else { break };
        if page == MAX_PAGES || stage.points >= MAX_POINTS || stage.events.len() >= MAX_EVENTS {
            stopped_at = Some(next.time);
            break;
        }
        after = Some(next);
    }
    if stopped_at.is_none() {
        stage.fall_silent_until(stop);
    }
    let open = stage.phase.open().is_some();
    Ok(Rehearsal { points: stage.points, stopped_at, open, events: stage.events })
}

struct Stage<'a> {
    rule: &'a Rule,
    device_id: &'a DeviceId,
    patience: Patience,
    line: Line,
    phase: Phase,
    points: usize,
    events: Vec<Event>,
}

impl<'a> Stage<'a> {
    fn new(rule: &'a Rule, device_id: &'a DeviceId, hold_down_s: u32) -> Self {
        let patience = Patience { for_s: rule.for_s, hold_down_s };
        let (line, phase) = (Line::default(), Phase::new(rule.version));
        Self { rule, device_id, patience, line, phase, points: 0, events: Vec::new() }
    }

    fn judge(&mut self, point: &Point) {
        self.points += 1;
        let at = point.key.time;
        if self.rule.condition == Condition::NoData {
            self.fall_silent_until(at);
            if let Some(turn) = self.phase.resolve(at) {
                self.tell(turn, at, None);
            }
        }
        let sample =
            Sample { at, ordinal: point.key.ordinal, value: point.value, claim: point.claim };
        for reading in self.line.admit([sample], 0).0 {
            if let Some((value, judgement)) = self.rule.condition.judge(&reading)
                && let Some(turn) = self.phase.step(judgement, at, self.patience, || true)
            {
                self.tell(turn, at, Some(value));
            }
        }
    }

    /// Nothing came until `at`.
    fn fall_silent_until(&mut self, at: Timestamp) {
        let Some(last) = self.line.frontier().filter(|_| self.rule.condition == Condition::NoData)
        else {
            return;
        };
        let due = last.plus_seconds(i64::from(self.rule.for_s));
        if due <= at
            && self.phase.open().is_none()
            && let Some(turn) = self.phase.raise(last, due, self.patience.hold_down_s, || true)
        {
            self.tell(turn, due, None);
        }
    }

    fn tell(&mut self, turn: Turn, at: Timestamp, value: Option<f64>) {
        let Some(alert) = &self.phase.alert else { return };
        let since = alert.began;
        let (event, says) = match turn {
            Turn::Opened(_) => ("opened", true),
            Turn::Reopened => ("reopened", true),
            Turn::Resolved => ("resolved", false),
        };
        let message = says.then(|| self.rule.says(self.device_id, since, value));
        self.events.push(Event { event, at, since, value, message });
    }
}
