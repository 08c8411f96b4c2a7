//! Evaluates an alert rule over stored points, with the state machine of ingestion.

use meter_domain::id::DeviceId;
use meter_domain::metric::{Point, PointKey};
use meter_domain::rule::{
    AlertTransition, BufferedSample, Condition, ReorderBuffer, Rule, RuleState, RuleTiming,
};
use meter_domain::time::Timestamp;
use meter_store::{MetricStore, PointQuery, StoreError};
use serde::Serialize;

/// Points that a backtest reads, at most.
pub const MAX_BACKTEST_POINTS: usize = 40_000;

/// Points of one read.
const PAGE: usize = 10_000;

/// Reads of one backtest, at most. A page can contain few points.
const MAX_PAGES: usize = 20;

/// Alert transitions that a backtest returns, about.
const MAX_EVENTS: usize = 1_000;

/// An alert transition that would have occurred.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BacktestEvent {
    /// `opened`, `reopened` or `resolved`.
    pub event: &'static str,
    /// When it would have occurred, by the clock of the device.
    pub at: Timestamp,
    /// When the condition began to hold.
    pub since: Timestamp,
    /// The value, or the rate, of the point that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The message of the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The result of a backtest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BacktestReport {
    /// The number of points that were evaluated.
    pub points: usize,
    /// Where the evaluation stopped because of a limit; none: at the end of the range.
    pub stopped_at: Option<Timestamp>,
    /// Whether an alert is open at the end.
    pub open: bool,
    /// The transitions in ascending order of time.
    pub events: Vec<BacktestEvent>,
}

/// Evaluates a rule over the points of a device in [start, stop), as if they had been received in
/// ascending order of time. `no_data` uses the clock of the device in place of the time of receipt.
///
/// # Errors
///
/// The metric store failed.
pub async fn backtest<M: MetricStore>(
    store: &M,
    rule: &Rule,
    device_id: &DeviceId,
    (start, stop): (Timestamp, Timestamp),
    hold_down_s: u32,
) -> Result<BacktestReport, StoreError> {
    let mut run = BacktestRun::new(rule, device_id, hold_down_s);
    let mut after: Option<PointKey> = None;
    let mut stopped_at = None;
    for page in 1.. {
        let query = PointQuery {
            device_id: device_id.clone(),
            start,
            stop,
            metric: Some(rule.metric.clone()),
            after: after.take(),
            limit: PAGE.min(MAX_BACKTEST_POINTS - run.points),
        };
        let answer = store.points(&query).await?;
        for point in &answer.points {
            run.evaluate_point(point);
        }
        let Some(next) = answer.next else { break };
        if page == MAX_PAGES || run.points >= MAX_BACKTEST_POINTS || run.events.len() >= MAX_EVENTS
        {
            stopped_at = Some(next.time);
            break;
        }
        after = Some(next);
    }
    if stopped_at.is_none() {
        run.apply_no_data_until(stop);
    }
    let open = run.rule_state.open_alert().is_some();
    Ok(BacktestReport { points: run.points, stopped_at, open, events: run.events })
}

struct BacktestRun<'a> {
    rule: &'a Rule,
    device_id: &'a DeviceId,
    timing: RuleTiming,
    buffer: ReorderBuffer,
    rule_state: RuleState,
    points: usize,
    events: Vec<BacktestEvent>,
}

impl<'a> BacktestRun<'a> {
    fn new(rule: &'a Rule, device_id: &'a DeviceId, hold_down_s: u32) -> Self {
        let timing = RuleTiming { for_s: rule.for_s, hold_down_s };
        let (buffer, rule_state) = (ReorderBuffer::default(), RuleState::new(rule.version));
        Self { rule, device_id, timing, buffer, rule_state, points: 0, events: Vec::new() }
    }

    fn evaluate_point(&mut self, point: &Point) {
        self.points += 1;
        let at = point.key.time;
        if self.rule.condition == Condition::NoData {
            self.apply_no_data_until(at);
            if let Some(transition) = self.rule_state.resolve(at) {
                self.record_event(transition, at, None);
            }
        }
        let sample = BufferedSample {
            at,
            sample_index: point.key.sample_index,
            value: point.value,
            precedence: point.precedence,
        };
        for reading in self.buffer.admit([sample], 0).0 {
            if let Some((value, result)) = self.rule.condition.evaluate(&reading)
                && let Some(transition) = self.rule_state.step(result, at, self.timing, || true)
            {
                self.record_event(transition, at, Some(value));
            }
        }
    }

    /// Evaluates `no_data` at `at`, before which no further point was received.
    fn apply_no_data_until(&mut self, at: Timestamp) {
        let Some(last) =
            self.buffer.frontier().filter(|_| self.rule.condition == Condition::NoData)
        else {
            return;
        };
        let due = last.plus_seconds(i64::from(self.rule.for_s));
        if due <= at
            && self.rule_state.open_alert().is_none()
            && let Some(transition) =
                self.rule_state.raise(last, due, self.timing.hold_down_s, || true)
        {
            self.record_event(transition, due, None);
        }
    }

    fn record_event(&mut self, transition: AlertTransition, at: Timestamp, value: Option<f64>) {
        let Some(alert) = &self.rule_state.alert else { return };
        let since = alert.started_at;
        let (event, has_message) = match transition {
            AlertTransition::Opened(_) => ("opened", true),
            AlertTransition::Reopened => ("reopened", true),
            AlertTransition::Resolved => ("resolved", false),
        };
        let message = has_message.then(|| self.rule.alert_message(self.device_id, since, value));
        self.events.push(BacktestEvent { event, at, since, value, message });
    }
}
