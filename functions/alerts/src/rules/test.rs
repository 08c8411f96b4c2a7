use meter_domain::id::DeviceId;
use meter_domain::rule::{Rule, Scope};
use meter_domain::time::Timestamp;
use meter_http::body::{self, Fields};
use meter_http::range::TimeRange;
use meter_http::{ApiError, Problem, Request, Response};
use meter_service::backtest::{BacktestReport, backtest};
use meter_store::{MetricStore, RuleStore};
use serde::Serialize;
use uuid::Uuid;

use super::find_rule;

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
    report: BacktestReport,
}

/// Says when a rule would have raised alerts of a device, by what is stored of it. Nothing is raised, and nobody told.
pub(crate) async fn test<R: RuleStore, T: MetricStore>(
    rules: &R,
    metrics: &T,
    hold_down_s: u32,
    request: &Request,
) -> Result<Response, ApiError> {
    let body = body::parse_optional_object(request)?;
    let fields = Fields::new(&body);
    fields.deny_unknown(&["device_id", "start", "stop"])?;
    let rule = find_rule(rules, request).await?;
    let device_id = device(&rule, &fields)?;
    let time = |name| fields.string(name, 1..=64);
    let TimeRange { start, stop } =
        TimeRange::from_strings(time("start")?, time("stop")?, DAY_S, request.now)?;
    let range = (start, stop);
    let report = backtest(metrics, &rule, &device_id, range, hold_down_s).await?;
    Response::ok(&View { rule_id: rule.rule_id, device_id, start, stop, report })
}

/// Any device may be tried; a rule for one device is tried on that one unless another is named.
fn device(rule: &Rule, fields: &Fields<'_>) -> Result<DeviceId, Problem> {
    const NAME: &str = "device_id";
    match (fields.string(NAME, 0..=usize::MAX)?, &rule.scope) {
        (Some(id), _) => DeviceId::parse(id).map_err(|bad| fields.invalid(NAME, bad.to_string())),
        (None, Scope::DeviceId(id)) => Ok(id.clone()),
        (None, _) => Err(fields.invalid(NAME, "is missing: the rule is for more than one device")),
    }
}
