use std::collections::BTreeMap;

use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{Cell, CellQuery, Cells, HourRollup, Level, RollupStore, StoreError};

use super::{Memory, Operation};

/// By level, metric and start of the item.
type ItemKey = (Level, MetricName, Timestamp);

/// By its start: the cell, its generation, and when its points will be forgotten.
type Item = BTreeMap<Timestamp, (Cell, u64, Option<i64>)>;

pub(super) type Rollups = BTreeMap<DeviceId, BTreeMap<ItemKey, Item>>;

impl RollupStore for Memory {
    async fn put_rollup(&self, rollup: &HourRollup, now: Timestamp) -> Result<(), StoreError> {
        self.call(Operation::PutRollup, |tables| {
            let of_device = tables.rollups.entry(rollup.device_id.clone()).or_default();
            let mut put = |level: Level, cell: &Cell| {
                let start = cell.start.floor(level.item_seconds());
                let item = of_device.entry((level, rollup.metric.clone(), start)).or_default();
                let is_stale = |(_, generation, until): &(Cell, u64, Option<i64>)| {
                    *generation >= rollup.generation
                        || until.is_some_and(|until| until <= now.as_seconds())
                };
                if !item.get(&cell.start).is_some_and(is_stale) {
                    let held = (cell.clone(), rollup.generation, rollup.points_until);
                    item.insert(cell.start, held);
                }
            };
            rollup.minutes.iter().for_each(|cell| put(Level::Minute, cell));
            put(Level::Hour, &rollup.hour);
        })
        .await
    }

    async fn cells(&self, query: &CellQuery) -> Result<Cells, StoreError> {
        self.call(Operation::ReadCells, |tables| {
            let items = tables.rollups.get(&query.device_id);
            let span = query.level.item_seconds();
            let from = (query.level, query.metric.clone(), query.from.floor(span));
            let to = (query.level, query.metric.clone(), query.to);
            let mut items =
                items.into_iter().flat_map(|items| items.range(from.clone()..to.clone()));
            let read: Vec<_> = items.by_ref().take(query.limit.max(1)).collect();
            let cells = read.iter().flat_map(|(_, item)| item.values().map(|(cell, ..)| cell));
            let wanted = |cell: &&Cell| (query.from..query.to).contains(&cell.start);
            Cells {
                cells: cells.filter(wanted).cloned().collect(),
                complete: items.next().map_or(query.to, |((_, _, start), _)| *start),
                items: read.len(),
            }
        })
        .await
    }

    async fn sweep_rollups(&self, device_id: &DeviceId) -> Result<bool, StoreError> {
        self.call(Operation::SweepRollups, |tables| {
            // One at a time, so that a caller that does not come again is found out.
            let Some(items) = tables.rollups.get_mut(device_id) else { return false };
            items.pop_first();
            !items.is_empty()
        })
        .await
    }
}
