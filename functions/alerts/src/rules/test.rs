use axum::Json;
use axum::extract::State;
use meter_domain::id::DeviceId;
use meter_domain::rule::{Rule, Scope};
use meter_domain::time::Timestamp;
use meter_http::extract::{OptionalJson, Path};
use meter_http::fields::{Fields, FromFields};
use meter_http::range::TimeRange;
use meter_http::{ApiError, Problem};
use meter_service::backtest::{BacktestReport, backtest};
use meter_store::Stores;
use serde::Serialize;
use uuid::Uuid;

use super::find_rule;
use crate::Alerts;

/// The range of a backtest without `start`, in seconds.
const DAY_S: u32 = 24 * 3600;

const DEVICE_ID: &str = "device_id";

/// The alerts that a rule would have opened.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    rule_id: Uuid,
    device_id: DeviceId,
    start: Timestamp,
    stop: Timestamp,
    #[serde(flatten)]
    report: BacktestReport,
}

/// The device and the range of a backtest.
#[derive(Debug)]
pub(crate) struct Backtest {
    device_id: Option<DeviceId>,
    range: TimeRange,
}

impl FromFields for Backtest {
    fn from_fields(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem> {
        fields.deny_unknown(&[DEVICE_ID, "start", "stop"])?;
        let device_id = fields.string(DEVICE_ID, 0..=usize::MAX)?.map(DeviceId::parse);
        let time = |name| fields.string(name, 1..=64);
        Ok(Self {
            device_id: device_id
                .transpose()
                .map_err(|invalid| fields.invalid(DEVICE_ID, invalid.to_string()))?,
            range: TimeRange::from_strings(time("start")?, time("stop")?, DAY_S, now)?,
        })
    }
}

/// Evaluates a rule on the stored points of a device, without opening an alert or sending a
/// notification.
pub(crate) async fn test<S: Stores>(
    State(Alerts { stores, hold_down_s }): State<Alerts<S>>,
    Path(rule_id): Path<String>,
    OptionalJson(Backtest { device_id, range }): OptionalJson<Backtest>,
) -> Result<Json<View>, ApiError> {
    let rule = find_rule(&stores, &rule_id).await?;
    let device_id = device_id.map_or_else(|| device_of(&rule), Ok)?;
    let TimeRange { start, stop } = range;
    let report = backtest(stores.metrics(), &rule, &device_id, (start, stop), hold_down_s).await?;
    Ok(Json(View { rule_id: rule.rule_id, device_id, start, stop, report }))
}

/// The device of a rule for one device, the default of `device_id`.
fn device_of(rule: &Rule) -> Result<DeviceId, Problem> {
    match &rule.scope {
        Scope::DeviceId(id) => Ok(id.clone()),
        _ => Err(Problem::field(DEVICE_ID, "is missing: the rule is for more than one device")),
    }
}
