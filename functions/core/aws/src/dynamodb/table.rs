//! A table: its name and keys, reading one item, and the parts of expressions.

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
use crate::{Clients, unavailable};

/// A table of infra/stores/template.yaml.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
    hash: &'static str,
    sort: Option<&'static str>,
}

impl Table {
    /// A table whose key is one attribute.
    pub(super) fn keyed(clients: &Clients, name: &str, hash: &'static str) -> Self {
        Self { client: clients.dynamodb.clone(), name: name.to_owned(), hash, sort: None }
    }

    /// A table whose key is a partition and a place in it.
    pub(super) fn sorted(
        clients: &Clients,
        name: &str,
        hash: &'static str,
        sort: &'static str,
    ) -> Self {
        Self { sort: Some(sort), ..Self::keyed(clients, name, hash) }
    }

    /// A key. `sort` is left out where the table has none.
    pub(super) fn key(&self, hash: &str, sort: &str) -> Item {
        let mut key = HashMap::from([(self.hash.to_owned(), text(hash))]);
        if let Some(attribute) = self.sort {
            key.insert(attribute.to_owned(), text(sort));
        }
        key
    }

    /// The key of an item, as plain text.
    pub(super) fn key_of(&self, item: &Item) -> (String, String) {
        let attribute = |name: &str| {
            let value = item.get(name).and_then(|value| value.as_s().ok());
            value.cloned().unwrap_or_default()
        };
        (attribute(self.hash), self.sort.map(attribute).unwrap_or_default())
    }

    /// The expression that is true of an item that exists.
    pub(super) fn exists(&self) -> String {
        format!("attribute_exists({})", self.hash)
    }

    /// The expression that is true where there is no item.
    pub(super) fn is_free(&self) -> String {
        format!("attribute_not_exists({})", self.hash)
    }

    /// One item, read consistently.
    pub(super) async fn get(&self, hash: &str, sort: &str) -> Result<Option<Item>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(self.key(hash, sort)))
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable("dynamodb:GetItem"))?;
        Ok(answer.item)
    }

    /// The first items of a partition, read consistently, and whether there may be more.
    pub(super) async fn first_of(
        &self,
        hash: &str,
        limit: i32,
    ) -> Result<(Vec<Item>, bool), StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("#hash = :hash")
            .expression_attribute_names("#hash", self.hash)
            .expression_attribute_values(":hash", text(hash))
            .consistent_read(true)
            .limit(limit)
            .send()
            .await
            .map_err(unavailable("dynamodb:Query"))?;
        let more = answer.last_evaluated_key.is_some_and(|key| !key.is_empty());
        Ok((answer.items.unwrap_or_default(), more))
    }

    pub(super) fn put(&self, item: Item) -> PutBuilder {
        Put::builder().table_name(&self.name).set_item(Some(item))
    }

    pub(super) fn update(&self, hash: &str, sort: &str) -> UpdateBuilder {
        Update::builder().table_name(&self.name).set_key(Some(self.key(hash, sort)))
    }

    pub(super) fn delete(&self, hash: &str, sort: &str) -> DeleteBuilder {
        Delete::builder().table_name(&self.name).set_key(Some(self.key(hash, sort)))
    }

    pub(super) fn check(&self, hash: &str, sort: &str) -> ConditionCheckBuilder {
        ConditionCheck::builder().table_name(&self.name).set_key(Some(self.key(hash, sort)))
    }
}

/// `#name` for each name: half of the alphabet is reserved in expressions.
pub(super) fn names<const N: usize>(names: [&str; N]) -> Option<HashMap<String, String>> {
    let entries = names.map(|name| (format!("#{name}"), name.to_owned()));
    Some(HashMap::from(entries))
}

/// `:name` for each value.
pub(super) fn values<const N: usize>(
    values: [(&str, AttributeValue); N],
) -> Option<HashMap<String, AttributeValue>> {
    let entries = values.map(|(name, value)| (format!(":{name}"), value));
    Some(HashMap::from(entries))
}

/// A request that lacks nothing. The builders check so at run time.
pub(super) fn built<T>(request: Result<T, BuildError>) -> Result<T, StoreError> {
    request.map_err(unavailable("building of a request"))
}
