use std::collections::BTreeSet;
use std::ops::Bound;

use jiff::civil::Date;
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::segments::{IndexEntry, MessageSegment, SegmentPosition};
use meter_domain::time::Timestamp;
use meter_store::{
    BatchFailures, BatchWriteError, MessageStore, Order, Page, PageRequest, QuarantineEntry,
    QuarantineStore, SegmentQuery, StoreError,
};

use super::pages::page;
use super::{MAX_SEGMENTS_PER_READ, MemoryStores, Operation, faults};

impl MemoryStores {
    /// Stores every item except those of failing messages; returns the latter as an error.
    async fn put_each<T>(
        &self,
        operation: Operation,
        items: &[T],
        message_id: impl Fn(&T) -> MessageId,
        store: impl Fn(&mut super::Tables, &T),
    ) -> Result<(), BatchWriteError> {
        let (failing, mut rejected) = {
            let faults = self.faults();
            (faults.failing_messages.clone(), faults.invalid_messages.clone())
        };
        if operation != Operation::PutSegments {
            rejected.clear();
        }
        let message_ids = || items.iter().map(&message_id);
        let failed: BTreeSet<_> = message_ids().filter(|id| failing.contains(id)).collect();
        let invalid: BTreeSet<_> = message_ids().filter(|id| rejected.contains(id)).collect();
        let stored = self
            .call(operation, |tables| {
                for item in items {
                    let id = message_id(item);
                    if !failed.contains(&id) && !invalid.contains(&id) {
                        store(tables, item);
                    }
                }
            })
            .await;
        let mut failures = BatchFailures::default();
        match stored {
            Err(source) => failures.add(items.iter().map(message_id), source),
            Ok(()) => {
                if !failed.is_empty() {
                    failures.add(failed, faults::injected_error(operation));
                }
                if !invalid.is_empty() {
                    failures.add(invalid, StoreError::invalid("memory", "too large"));
                }
            }
        }
        failures.into_result()
    }
}

impl MessageStore for MemoryStores {
    async fn put(&self, segments: &[MessageSegment]) -> Result<(), BatchWriteError> {
        self.put_each(
            Operation::PutSegments,
            segments,
            |segment| segment.message_id,
            |tables, segment| {
                let id = || segment.device_id.clone();
                tables.days.entry(id()).or_default().insert(segment.ts.day());
                let of_device = tables.segments.entry(id()).or_default();
                of_device.insert(position(segment), segment.clone());
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

    async fn read(&self, query: &SegmentQuery) -> Result<(Vec<MessageSegment>, bool), StoreError> {
        self.call(Operation::ReadSegments, |tables| {
            let of_device = tables.segments.get(&query.device_id).into_iter().flatten();
            let matching = of_device.map(|(_, segment)| segment).filter(|segment| {
                segment.ts.day() == query.day && (query.from..query.to).contains(&segment.ts)
            });
            let limit = query.limit.min(MAX_SEGMENTS_PER_READ);
            let take = |found: &mut dyn Iterator<Item = &MessageSegment>| {
                let segments: Vec<MessageSegment> = found.take(limit).cloned().collect();
                let more = segments.len() == limit && found.next().is_some();
                (segments, more)
            };
            let after = query.after.as_ref();
            match query.order {
                Order::Ascending => {
                    take(&mut matching.filter(|p| after.is_none_or(|after| position(p) > *after)))
                }
                Order::Descending => take(
                    &mut matching.rev().filter(|p| after.is_none_or(|after| position(p) < *after)),
                ),
            }
        })
        .await
    }

    async fn remove(
        &self,
        device_id: &DeviceId,
        segments: &[SegmentPosition],
    ) -> Result<(), StoreError> {
        self.call(Operation::RemoveSegments, |tables| {
            if let Some(of_device) = tables.segments.get_mut(device_id) {
                of_device.retain(|position, _| !segments.contains(position));
            }
        })
        .await
    }

    async fn get_index_entry(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        message_id: MessageId,
    ) -> Result<Option<IndexEntry>, StoreError> {
        let is_continuation = false;
        self.call(Operation::GetIndexEntry, |tables| {
            let of_device = tables.segments.get(device_id)?;
            of_device.get(&SegmentPosition { ts, message_id, is_continuation })?.index_entry.clone()
        })
        .await
    }
}

fn position(segment: &MessageSegment) -> SegmentPosition {
    SegmentPosition {
        ts: segment.ts,
        message_id: segment.message_id,
        is_continuation: segment.index_entry.is_none(),
    }
}

impl QuarantineStore for MemoryStores {
    async fn put_quarantined(&self, entries: &[QuarantineEntry]) -> Result<(), BatchWriteError> {
        self.put_each(
            Operation::PutQuarantined,
            entries,
            |entry| entry.message_id,
            |tables, entry| {
                let mut entry = entry.clone();
                if let Some(first) =
                    tables.quarantine.values().find(|e| e.message_id == entry.message_id)
                {
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
    ) -> Result<Page<QuarantineEntry>, StoreError> {
        self.call(Operation::ListQuarantined, |tables| {
            let before = request.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = tables.quarantine.range((Bound::Unbounded, before)).rev();
            page(
                rows.map(|(_, entry)| entry),
                request,
                tables.read_budget,
                |entry| Some(entry.clone()),
                QuarantineEntry::id,
            )
        })
        .await
    }

    async fn get_quarantined(
        &self,
        received_at: Timestamp,
        message_id: MessageId,
    ) -> Result<Option<QuarantineEntry>, StoreError> {
        self.call(Operation::GetQuarantined, |tables| {
            let mut entries = tables.quarantine.values();
            entries
                .find(|entry| (entry.received_at, entry.message_id) == (received_at, message_id))
                .cloned()
        })
        .await
    }
}
