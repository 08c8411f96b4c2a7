//! Alert rules, in the table `alert-rules`: in one partition, because they are few and read
//! together. Another item has the number of rules and the generation, which every transaction that
//! changes a rule also changes.

use aws_sdk_dynamodb::types::{ReturnValuesOnConditionCheckFailure as OnFailure, Update};
use meter_domain::rule::{MAX_RULES, Rule};
use meter_store::{
    CreateRuleError, Order, Page, PageRequest, RuleSnapshot, RuleStore, StoreError, WriteError,
    retry,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::item::{Item, decode, encode, from_json, number, text, to_json};
use super::merged_query::{self, MergedQuery, PartitionQuery, ReadBudget, RowBatch};
use super::table::{Table, checked_build, names, values};
use super::transaction::{self, TransactAction, TransactionError};
use crate::Clients;
use crate::error::classify;
use crate::settings::Tables;

const PARTITION_KEY: &str = "kind";
const SORT_KEY: &str = "rule_id";

/// The partition of the rules.
const RULE: &str = "rule";

/// The key of the item with the number of rules and the generation.
const COUNTED: (&str, &str) = ("#counted", "rules");

/// Implements [`RuleStore`] with the table `alert-rules`.
#[derive(Debug, Clone)]
pub struct AlertRules {
    table: Table,
}

impl AlertRules {
    /// Creates the adapter.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self { table: Table::with_sort_key(clients, &tables.rules, PARTITION_KEY, SORT_KEY) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct RuleItem {
    kind: String,
    rule_id: Uuid,
    version: u64,
    /// The rule as JSON text: its numbers are doubles, which DynamoDB cannot represent.
    document: String,
}

fn to_item(rule: &Rule) -> Result<Item, StoreError> {
    encode(&RuleItem {
        kind: RULE.to_owned(),
        rule_id: rule.rule_id,
        version: rule.version,
        document: to_json(rule)?,
    })
}

fn from_item(item: Item) -> Result<Rule, StoreError> {
    let item: RuleItem = decode(item)?;
    from_json(&item.rule_id.to_string(), &item.document)
}

/// All rules, newest first.
struct RuleQuery<'a>(&'a Table);

impl MergedQuery for RuleQuery<'_> {
    type Partition = ();
    type Row = Rule;

    fn order(&self) -> Order {
        Order::Descending
    }

    fn position(&self, rule: &Rule) -> String {
        rule.rule_id.to_string()
    }

    async fn read(
        &self,
        (): (),
        after: Option<&str>,
        limit: usize,
    ) -> Result<RowBatch<Rule>, StoreError> {
        let partition = PartitionQuery {
            index: None,
            partition_key: PARTITION_KEY,
            name: RULE.to_owned(),
            sort_key: SORT_KEY,
        };
        let query = partition.query_descending(self.0, after).consistent_read(true);
        merged_query::fetch_rows(query, limit, from_item).await
    }
}

impl AlertRules {
    /// Returns the update that increments the generation and adds `by` to the number of rules.
    fn counted(&self, by: i64) -> Result<Update, StoreError> {
        let (partition_key, sort_key) = COUNTED;
        let mut update = self
            .table
            .update(partition_key, sort_key)
            .update_expression("ADD #generation :one, #count :by")
            .set_expression_attribute_names(names(["generation", "count"]))
            .set_expression_attribute_values(values([("one", number(1)), ("by", number(by))]));
        if by > 0 {
            update = update
                .condition_expression("attribute_not_exists(#count) OR #count < :max")
                .expression_attribute_values(":max", number(MAX_RULES));
        }
        checked_build(update.build())
    }

    /// Returns the number of changes of all rules.
    async fn generation(&self) -> Result<u64, StoreError> {
        let (partition_key, sort_key) = COUNTED;
        let Some(item) = self.table.get(partition_key, sort_key).await? else { return Ok(0) };
        let digits = item.get("generation").and_then(|value| value.as_n().ok());
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| StoreError::Corrupt {
            what: "item of the number of alert rules".to_owned(),
            reason: "generation is missing or not an integer".to_owned(),
        })
    }

    async fn read_all(&self) -> Result<Vec<Rule>, StoreError> {
        let mut items = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("#kind = :kind")
            .set_expression_attribute_names(names([PARTITION_KEY]))
            .set_expression_attribute_values(values([(PARTITION_KEY, text(RULE))]))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut rules = Vec::new();
        while let Some(item) = items.next().await {
            rules.push(from_item(item.map_err(classify("dynamodb:Query"))?)?);
        }
        Ok(rules)
    }

    /// Writes a change of a rule together with the number of rules and the generation.
    async fn write(&self, change: impl TransactAction, by: i64) -> Result<(), TransactionError> {
        let actions = vec![change.action(), self.counted(by)?.action()];
        transaction::write(&self.table.client, actions).await
    }
}

/// The condition that the stored version is the one that was read.
const IS_AT: &str = "#version = :read";

impl RuleStore for AlertRules {
    async fn create(&self, rule: &Rule) -> Result<(), CreateRuleError> {
        let put = self
            .table
            .put(to_item(rule)?)
            .condition_expression(self.table.not_exists())
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        match self.write(checked_build(put.build())?, 1).await {
            Ok(()) => Ok(()),
            // The id is new, so that an existing rule is the result of an earlier attempt whose
            // response was lost.
            Err(TransactionError::ConditionFailed(failed)) if failed.contains(0) => Ok(()),
            Err(TransactionError::ConditionFailed(_)) => Err(CreateRuleError::LimitReached),
            Err(TransactionError::Store(error)) => Err(error.into()),
        }
    }

    async fn get(&self, rule_id: Uuid) -> Result<Option<Rule>, StoreError> {
        self.table.get(RULE, &rule_id.to_string()).await?.map(from_item).transpose()
    }

    async fn list(&self, request: &PageRequest) -> Result<Page<Rule>, StoreError> {
        let (after, limit) = (request.after.as_deref(), request.limit);
        merged_query::read_page(
            &RuleQuery(&self.table),
            [()],
            after,
            limit,
            &mut ReadBudget::default(),
        )
        .await
    }

    async fn replace(&self, rule: &Rule) -> Result<(), WriteError> {
        let put = self
            .table
            .put(to_item(rule)?)
            .condition_expression(IS_AT)
            .set_expression_attribute_names(names(["version"]))
            .set_expression_attribute_values(values([(
                "read",
                number(rule.version.saturating_sub(1)),
            )]));
        Ok(self.write(checked_build(put.build())?, 0).await?)
    }

    async fn remove(&self, rule_id: Uuid, version: u64) -> Result<(), WriteError> {
        let delete = self
            .table
            .delete(RULE, &rule_id.to_string())
            .condition_expression(IS_AT)
            .set_expression_attribute_names(names(["version"]))
            .set_expression_attribute_values(values([("read", number(version))]));
        Ok(self.write(checked_build(delete.build())?, -1).await?)
    }

    async fn all(&self) -> Result<RuleSnapshot, StoreError> {
        let mut generation = self.generation().await?;
        for attempt in 0..retry::MAX_ATTEMPTS {
            // A query reads its items at different times. Without a change in between, they are the
            // rules of one generation.
            let rules = self.read_all().await?;
            let after = self.generation().await?;
            if after == generation {
                return Ok(RuleSnapshot { rules, generation });
            }
            generation = after;
            retry::wait(attempt).await;
        }
        Err(StoreError::conflict("read of all alert rules", "changed at every attempt"))
    }
}
