use std::collections::BTreeSet;
use std::ops::Bound;

use jiff::civil::Date;
use meter_domain::id::{DeviceId, Mid};
use meter_domain::parts::{Head, Part, PartPosition};
use meter_domain::time::Timestamp;
use meter_store::{
    MessageStore, NotStored, Order, Page, PageRequest, PartQuery, QuarantineStore, Quarantined,
    StoreError,
};

use super::pages::page;
use super::{Memory, Operation, PARTS_PER_READ, faults};

impl Memory {
    /// Stores what no fault names; says what was not stored.
    async fn put_each<T>(
        &self,
        operation: Operation,
        things: &[T],
        mid: impl Fn(&T) -> Mid,
        store: impl Fn(&mut super::Tables, &T),
    ) -> Result<(), NotStored> {
        let refused = self.faults().refused.clone();
        let failed: BTreeSet<Mid> =
            (things.iter().map(&mid)).filter(|mid| refused.contains(mid)).collect();
        let stored = self
            .call(operation, |tables| {
                for thing in things {
                    if !failed.contains(&mid(thing)) {
                        store(tables, thing);
                    }
                }
            })
            .await;
        match stored {
            Err(source) => Err(NotStored { failed: things.iter().map(mid).collect(), source }),
            Ok(()) if failed.is_empty() => Ok(()),
            Ok(()) => Err(NotStored { failed, source: faults::error(operation) }),
        }
    }
}

impl MessageStore for Memory {
    async fn put(&self, parts: &[Part]) -> Result<(), NotStored> {
        self.put_each(
            Operation::PutParts,
            parts,
            |part| part.mid,
            |tables, part| {
                let id = || part.device_id.clone();
                tables.days.entry(id()).or_default().insert(part.ts.day());
                let of_device = tables.parts.entry(id()).or_default();
                of_device.insert(position(part), part.clone());
            },
        )
        .await
    }

    async fn days(&self, device_id: &DeviceId) -> Result<Vec<Date>, StoreError> {
        self.call(Operation::ListDays, |tables| {
            let days = tables.days.get(device_id).into_iter();
            days.flatten().copied().collect()
        })
        .await
    }

    async fn read(&self, query: &PartQuery) -> Result<(Vec<Part>, bool), StoreError> {
        self.call(Operation::ReadParts, |tables| {
            let of_device = tables.parts.get(&query.device_id).into_iter().flatten();
            let wanted = of_device.map(|(_, part)| part).filter(|part| {
                part.ts.day() == query.day && (query.from..query.to).contains(&part.ts)
            });
            let limit = query.limit.min(PARTS_PER_READ);
            let take = |found: &mut dyn Iterator<Item = &Part>| {
                let parts: Vec<Part> = found.take(limit).cloned().collect();
                let more = parts.len() == limit && found.next().is_some();
                (parts, more)
            };
            let after = query.after.as_ref();
            match query.order {
                Order::Ascending => {
                    take(&mut wanted.filter(|p| after.is_none_or(|after| position(p) > *after)))
                }
                Order::Descending => take(
                    &mut wanted.rev().filter(|p| after.is_none_or(|after| position(p) < *after)),
                ),
            }
        })
        .await
    }

    async fn remove(&self, device_id: &DeviceId, parts: &[PartPosition]) -> Result<(), StoreError> {
        self.call(Operation::RemoveParts, |tables| {
            if let Some(of_device) = tables.parts.get_mut(device_id) {
                of_device.retain(|position, _| !parts.contains(position));
            }
        })
        .await
    }

    async fn head(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        mid: Mid,
    ) -> Result<Option<Head>, StoreError> {
        let tail = false;
        self.call(Operation::GetHead, |tables| {
            let of_device = tables.parts.get(device_id)?;
            of_device.get(&PartPosition { ts, mid, tail })?.head.clone()
        })
        .await
    }
}

fn position(part: &Part) -> PartPosition {
    PartPosition { ts: part.ts, mid: part.mid, tail: part.head.is_none() }
}

impl QuarantineStore for Memory {
    async fn put_quarantined(&self, entries: &[Quarantined]) -> Result<(), NotStored> {
        self.put_each(
            Operation::PutQuarantined,
            entries,
            |entry| entry.mid,
            |tables, entry| {
                let mut entry = entry.clone();
                if let Some(first) = tables.quarantine.values().find(|e| e.mid == entry.mid) {
                    entry.received_at = first.received_at;
                }
                tables.quarantine.insert(entry.id(), entry);
            },
        )
        .await
    }

    async fn list_quarantined(
        &self,
        request: &PageRequest,
    ) -> Result<Page<Quarantined>, StoreError> {
        self.call(Operation::ListQuarantined, |tables| {
            let before = request.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = tables.quarantine.range((Bound::Unbounded, before)).rev();
            page(
                rows.map(|(_, entry)| entry),
                request,
                tables.read_budget,
                |entry| Some(entry.clone()),
                Quarantined::id,
            )
        })
        .await
    }

    async fn get_quarantined(
        &self,
        received_at: Timestamp,
        mid: Mid,
    ) -> Result<Option<Quarantined>, StoreError> {
        self.call(Operation::GetQuarantined, |tables| {
            let mut entries = tables.quarantine.values();
            entries.find(|entry| (entry.received_at, entry.mid) == (received_at, mid)).cloned()
        })
        .await
    }
}
