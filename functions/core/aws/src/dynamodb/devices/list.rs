//! Lists of devices.

use meter_domain::device::Device;
use meter_domain::id::Shard;
use meter_store::{DeviceFilter, Order, StoreError};

use super::device_item::from_item;
use crate::dynamodb::item::text;
use crate::dynamodb::merged_query::{self, MergedQuery, PartitionQuery, RowBatch};
use crate::dynamodb::table::{Table, names, values};

/// Index of all devices by creation.
pub(super) const BY_CREATED: &str = "by-created";

/// Index of all devices by device id.
const BY_DEVICE_ID: &str = "by-device-id";

/// Devices that match a filter, newest first or, with a prefix, by device id.
pub(super) struct DeviceQuery<'a> {
    pub(super) table: &'a Table,
    pub(super) filter: &'a DeviceFilter,
}

/// Characters below and above all characters of a device id.
const LOWEST: char = ' ';
const HIGHEST: char = '~';

impl MergedQuery for DeviceQuery<'_> {
    type Partition = Shard;
    type Row = Device;

    fn order(&self) -> Order {
        match self.filter.id_prefix {
            Some(_) => Order::Ascending,
            None => Order::Descending,
        }
    }

    fn position(&self, device: &Device) -> String {
        match self.filter.id_prefix {
            Some(_) => device.device_id.to_string(),
            None => device.id.to_string(),
        }
    }

    fn matches(&self, device: &Device) -> bool {
        let filter = self.filter;
        (filter.status).is_none_or(|status| device.status == status)
            && (filter.device_type.is_none() || device.device_type == filter.device_type)
    }

    async fn read(
        &self,
        shard: Shard,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RowBatch<Device>, StoreError> {
        let shard = shard.to_string();
        let query = match &self.filter.id_prefix {
            None => {
                let index = Some(BY_CREATED);
                let partition =
                    PartitionQuery { index, partition_key: "shard", name: shard, sort_key: "id" };
                partition.query_descending(self.table, after)
            }
            Some(prefix) => {
                // The least text above a position is the position and the lowest character.
                let low = after.map_or_else(|| prefix.clone(), |after| format!("{after}{LOWEST}"));
                let low = if low.is_empty() { LOWEST.to_string() } else { low };
                self.table
                    .client
                    .query()
                    .table_name(&self.table.name)
                    .index_name(BY_DEVICE_ID)
                    .key_condition_expression(
                        "#shard = :shard AND device_id BETWEEN :low AND :high",
                    )
                    .set_expression_attribute_names(names(["shard"]))
                    .set_expression_attribute_values(values([
                        ("shard", text(shard)),
                        ("low", text(low)),
                        ("high", text(format!("{prefix}{HIGHEST}"))),
                    ]))
            }
        };
        merged_query::fetch_rows(query, limit, from_item).await
    }
}
