//! A table with its keys, reads of single items, and parts of expressions.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::builders::{
    ConditionCheckBuilder, DeleteBuilder, PutBuilder, UpdateBuilder,
};
use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, Update};
use meter_store::StoreError;

use super::item::{Item, text};
use crate::Clients;
use crate::error::classify;

/// A table of infra/stores/template.yaml.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
    partition_key: &'static str,
    sort_key: Option<&'static str>,
}

impl Table {
    /// Creates a table without a sort key.
    pub(super) fn with_partition_key(
        clients: &Clients,
        name: &str,
        partition_key: &'static str,
    ) -> Self {
        Self {
            client: clients.dynamodb.clone(),
            name: name.to_owned(),
            partition_key,
            sort_key: None,
        }
    }

    /// Creates a table with a sort key.
    pub(super) fn with_sort_key(
        clients: &Clients,
        name: &str,
        partition_key: &'static str,
        sort_key: &'static str,
    ) -> Self {
        Self { sort_key: Some(sort_key), ..Self::with_partition_key(clients, name, partition_key) }
    }

    /// Returns the key attributes. Ignores `sort_key` in tables without one.
    pub(super) fn key(&self, partition_key: &str, sort_key: &str) -> Item {
        let mut key = HashMap::from([(self.partition_key.to_owned(), text(partition_key))]);
        if let Some(attribute) = self.sort_key {
            key.insert(attribute.to_owned(), text(sort_key));
        }
        key
    }

    /// Returns the key of an item as texts.
    pub(super) fn key_text_of(&self, item: &Item) -> (String, String) {
        let attribute = |name: &str| {
            let value = item.get(name).and_then(|value| value.as_s().ok());
            value.cloned().unwrap_or_default()
        };
        (attribute(self.partition_key), self.sort_key.map(attribute).unwrap_or_default())
    }

    /// Returns the condition that the item exists.
    pub(super) fn exists(&self) -> String {
        format!("attribute_exists({})", self.partition_key)
    }

    /// Returns the condition that the item does not exist.
    pub(super) fn not_exists(&self) -> String {
        format!("attribute_not_exists({})", self.partition_key)
    }

    /// Reads an item with strong consistency.
    pub(super) async fn get(
        &self,
        partition_key: &str,
        sort_key: &str,
    ) -> Result<Option<Item>, StoreError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(self.key(partition_key, sort_key)))
            .consistent_read(true)
            .send()
            .await
            .map_err(classify("dynamodb:GetItem"))?;
        Ok(response.item)
    }

    /// Reads the first items of a partition with strong consistency; `true` if there may be more.
    pub(super) async fn query_first(
        &self,
        partition_key: &str,
        limit: i32,
    ) -> Result<(Vec<Item>, bool), StoreError> {
        let response = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("#partition_key = :partition_key")
            .expression_attribute_names("#partition_key", self.partition_key)
            .expression_attribute_values(":partition_key", text(partition_key))
            .consistent_read(true)
            .limit(limit)
            .send()
            .await
            .map_err(classify("dynamodb:Query"))?;
        let more = response.last_evaluated_key.is_some_and(|key| !key.is_empty());
        Ok((response.items.unwrap_or_default(), more))
    }

    pub(super) fn put(&self, item: Item) -> PutBuilder {
        Put::builder().table_name(&self.name).set_item(Some(item))
    }

    pub(super) fn update(&self, partition_key: &str, sort_key: &str) -> UpdateBuilder {
        Update::builder().table_name(&self.name).set_key(Some(self.key(partition_key, sort_key)))
    }

    pub(super) fn delete(&self, partition_key: &str, sort_key: &str) -> DeleteBuilder {
        Delete::builder().table_name(&self.name).set_key(Some(self.key(partition_key, sort_key)))
    }

    pub(super) fn condition_check(
        &self,
        partition_key: &str,
        sort_key: &str,
    ) -> ConditionCheckBuilder {
        ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(self.key(partition_key, sort_key)))
    }
}

/// Returns the placeholder `#name` of each attribute name: many names are reserved in expressions.
pub(super) fn names<const N: usize>(names: [&str; N]) -> Option<HashMap<String, String>> {
    let entries = names.map(|name| (format!("#{name}"), name.to_owned()));
    Some(HashMap::from(entries))
}

/// Returns the placeholder `:name` of each value.
pub(super) fn values<const N: usize>(
    values: [(&str, AttributeValue); N],
) -> Option<HashMap<String, AttributeValue>> {
    let entries = values.map(|(name, value)| (format!(":{name}"), value));
    Some(HashMap::from(entries))
}

/// Converts the error of an SDK builder, which checks required fields at run time.
pub(super) fn checked_build<T>(request: Result<T, BuildError>) -> Result<T, StoreError> {
    request.map_err(|error| StoreError::misconfigured("building of a request", error))
}
