use meter_domain::id::DeviceId;
use meter_domain::rule::{Rule, Scope};
use meter_domain::time::Timestamp;
use meter_http::body::{self, Fields};
use meter_http::range::TimeRange;
use meter_http::{Answer, Failure, Problem, Request};
use meter_service::backtest::{Rehearsal, rehearse};
use meter_store::{MetricStore, RuleStore};
use serde::Serialize;
use uuid::Uuid;

use super::known;

/// What is looked at when the client names no beginning, in seconds.
const DAY_S: u32 = 24 * 3600;

/// What there would have been.
#[derive(Debug, Serialize)]
struct View {
    rule_id: Uuid,
    device_id: DeviceId,
    start: Timestamp,
    stop: Timestamp,
    #[serde(flatten)]
    rehearsal: Rehearsal,
}

/// Says when a rule would have raised alerts of a device, by what is stored of it. Nothing is raised, and nobody told.
pub(crate) async fn test<R: RuleStore, T: MetricStore>(
    rules: &R,
    metrics: &T,
    hold_down_s: u32,
    request: &Request,
) -> Result<Answer, Failure> {
    let body = body::object_or_nothing(request)?;
    let fields = Fields::of(&body);
    fields.only(&["device_id", "start", "stop"])?;
    let rule = known(rules, request).await?;
    let device_id = device(&rule, &fields)?;
    let time = |name| fields.text(name, 1..=64);
    let TimeRange { start, stop } =
        TimeRange::of_texts(time("start")?, time("stop")?, DAY_S, request.now)?;
    let range = (start, stop);
    let rehearsal = rehearse(metrics, &rule, &device_id, range, hold_down_s).await?;
    Answer::ok(&View { rule_id: rule.rule_id, device_id, start, stop, rehearsal })
}

/// Any device may be tried; a rule for one device is tried on that one unless another is named.
fn device(rule: &Rule, fields: &Fields<'_>) -> Result<DeviceId, Problem> {
    const NAME: &str = "device_id";
    match (fields.text(NAME, 0..=usize::MAX)?, &rule.scope) {
        (Some(id), _) => DeviceId::parse(id).map_err(|bad| fields.wrong(NAME, bad.to_string())),
        (None, Scope::DeviceId(id)) => Ok(id.clone()),
        (None, _) => Err(fields.wrong(NAME, "is missing: the rule is for more than one device")),
    }
}
