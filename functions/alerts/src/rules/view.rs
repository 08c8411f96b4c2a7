use meter_domain::alert::Severity;
use meter_domain::metric::MetricName;
use meter_domain::rule::{Limits, Rule, Scope};
use meter_domain::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// A rule in a response; a client may send it back.
#[derive(Debug, Serialize)]
pub(super) struct View {
    rule_id: Uuid,
    name: String,
    enabled: bool,
    scope: Scope,
    metric: MetricName,
    kind: &'static str,
    #[serde(flatten)]
    limits: Option<LimitsView>,
    for_s: u32,
    severity: Severity,
    message: Option<String>,
    notify: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: u64,
}

#[derive(Debug, Serialize)]
struct LimitsView {
    operator: &'static str,
    #[serde(flatten)]
    bounds: BoundsView,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum BoundsView {
    Threshold { threshold: f64, clear: Option<f64> },
    Range { low: f64, high: f64, clear: Option<Range> },
}

#[derive(Debug, Serialize)]
struct Range {
    low: f64,
    high: f64,
}

impl LimitsView {
    fn new(limits: &Limits) -> Self {
        let (low, high) = limits.bounds();
        let clear = limits.clear_bounds();
        let bounds = match limits.operator().is_range() {
            true => {
                BoundsView::Range { low, high, clear: clear.map(|(low, high)| Range { low, high }) }
            }
            false => BoundsView::Threshold { threshold: low, clear: clear.map(|(clear, _)| clear) },
        };
        Self { operator: limits.operator().as_str(), bounds }
    }
}

impl View {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            kind: rule.condition.kind(),
            limits: rule.condition.limits().map(LimitsView::new),
            message: rule.message.map(String::from),
            rule_id: rule.rule_id,
            name: rule.name,
            enabled: rule.enabled,
            scope: rule.scope,
            metric: rule.metric,
            for_s: rule.for_s,
            severity: rule.severity,
            notify: rule.notify,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
            version: rule.version,
        }
    }
}
