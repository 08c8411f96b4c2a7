//! All enabled rules, indexed by scope and metric.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::{Condition, Rule, Scope};
use crate::id::DeviceId;
use crate::metric::MetricName;

type ByMetric = HashMap<MetricName, Vec<Arc<Rule>>>;

/// The rules that are enabled.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// Number of rule changes; the set with the greater generation is newer.
    pub generation: u64,
    for_all_devices: ByMetric,
    by_device_type: HashMap<String, ByMetric>,
    by_device: HashMap<DeviceId, ByMetric>,
    by_id: HashMap<Uuid, Arc<Rule>>,
    /// Whether a rule of the set has the condition [`Condition::NoData`].
    pub has_no_data_rules: bool,
}

impl RuleSet {
    /// Builds the set; disabled rules are left out.
    pub fn new(rules: impl IntoIterator<Item = Rule>, generation: u64) -> Self {
        let mut set = Self { generation, ..Self::default() };
        for rule in rules.into_iter().filter(|rule| rule.enabled) {
            let rule = Arc::new(rule);
            set.has_no_data_rules |= rule.condition == Condition::NoData;
            let by_metric = match &rule.scope {
                Scope::All => &mut set.for_all_devices,
                Scope::DeviceType(name) => set.by_device_type.entry(name.clone()).or_default(),
                Scope::DeviceId(id) => set.by_device.entry(id.clone()).or_default(),
            };
            by_metric.entry(rule.metric.clone()).or_default().push(Arc::clone(&rule));
            set.by_id.insert(rule.rule_id, rule);
        }
        set
    }

    /// Whether the set has no rule.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The rules that apply to a device.
    pub fn applicable_to(
        &self,
        device_id: &DeviceId,
        device_type: Option<&str>,
    ) -> ApplicableRules<'_> {
        let of_type = device_type.and_then(|name| self.by_device_type.get(name));
        let scopes = [Some(&self.for_all_devices), of_type, self.by_device.get(device_id)];
        ApplicableRules { set: self, scopes }
    }
}

/// The rules that apply to one device.
#[derive(Debug, Clone, Copy)]
pub struct ApplicableRules<'a> {
    set: &'a RuleSet,
    scopes: [Option<&'a ByMetric>; 3],
}

impl<'a> ApplicableRules<'a> {
    /// The rules on a metric.
    pub fn for_metric(&self, metric: &MetricName) -> impl Iterator<Item = &'a Rule> + use<'a> {
        let scopes = self.scopes.map(|scope| scope.and_then(|by_metric| by_metric.get(metric)));
        scopes.into_iter().flatten().flatten().map(Arc::as_ref)
    }

    /// Whether a rule applies to a metric.
    pub fn has_rules_for(&self, metric: &MetricName) -> bool {
        self.scopes.iter().flatten().any(|by_metric| by_metric.contains_key(metric))
    }

    /// Whether no rule applies.
    pub fn is_empty(&self) -> bool {
        self.scopes.iter().flatten().all(|by_metric| by_metric.is_empty())
    }

    /// The subset of `metrics` to which a rule applies.
    pub fn metrics_with_rules<'m>(
        &self,
        metrics: impl Iterator<Item = &'m MetricName>,
    ) -> BTreeSet<&'m MetricName> {
        metrics.filter(|metric| self.has_rules_for(metric)).collect()
    }

    /// The rule with this id, if it applies.
    pub fn find(&self, rule_id: Uuid) -> Option<&'a Rule> {
        let rule = self.set.by_id.get(&rule_id)?;
        self.for_metric(&rule.metric).find(|applicable| applicable.rule_id == rule_id)
    }
}
