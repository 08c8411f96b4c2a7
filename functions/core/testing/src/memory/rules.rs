use meter_domain::rule::{MAX_RULES, Rule};
use meter_store::{
    CreateRuleError, Page, PageRequest, RuleSnapshot, RuleStore, StoreError, WriteError,
};
use uuid::Uuid;

use super::pages::page;
use super::{MemoryStores, Operation, Tables};

impl Tables {
    fn has_version(&self, rule_id: Uuid, version: u64) -> bool {
        self.rules.get(&rule_id).is_some_and(|stored| stored.version == version)
    }
}

impl RuleStore for MemoryStores {
    async fn create(&self, rule: &Rule) -> Result<(), CreateRuleError> {
        self.call(Operation::CreateRule, |tables| {
            if tables.rules.len() as u64 >= MAX_RULES {
                return Err(CreateRuleError::LimitReached);
            }
            tables.rules.insert(rule.rule_id, rule.clone());
            tables.rules_generation += 1;
            Ok(())
        })
        .await?
    }

    async fn get(&self, rule_id: Uuid) -> Result<Option<Rule>, StoreError> {
        self.call(Operation::GetRule, |tables| tables.rules.get(&rule_id).cloned()).await
    }

    async fn list(&self, request: &PageRequest) -> Result<Page<Rule>, StoreError> {
        self.call(Operation::ListRules, |tables| {
            let after = request.after.as_deref();
            let is_next =
                |rule: &&Rule| after.is_none_or(|a| rule.rule_id.to_string().as_str() < a);
            let rows = tables.rules.values().rev().filter(is_next);
            let position = |rule: &Rule| rule.rule_id.to_string();
            page(rows, request, tables.read_budget, |rule| Some(rule.clone()), position)
        })
        .await
    }

    async fn replace(&self, rule: &Rule) -> Result<(), WriteError> {
        self.call(Operation::ReplaceRule, |tables| {
            if !tables.has_version(rule.rule_id, rule.version.saturating_sub(1)) {
                return Err(WriteError::Conflict);
            }
            tables.rules.insert(rule.rule_id, rule.clone());
            tables.rules_generation += 1;
            Ok(())
        })
        .await?
    }

    async fn remove(&self, rule_id: Uuid, version: u64) -> Result<(), WriteError> {
        self.call(Operation::RemoveRule, |tables| {
            if !tables.has_version(rule_id, version) {
                return Err(WriteError::Conflict);
            }
            tables.rules.remove(&rule_id);
            tables.rules_generation += 1;
            Ok(())
        })
        .await?
    }

    async fn all(&self) -> Result<RuleSnapshot, StoreError> {
        self.call(Operation::ReadRules, |tables| RuleSnapshot {
            rules: tables.rules.values().cloned().collect(),
            generation: tables.rules_generation,
        })
        .await
    }
}
