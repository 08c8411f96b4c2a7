//! Pages of lists whose rows are spread over partitions ("streams"): a merge of queries, under the budget
//! of [`MAX_ITEMS_EXAMINED`] examined rows.
//!
//! A page ends after a row, and its position is the row's. It is right in every stream: each goes on
//! behind it, whichever stream the row came from.

use std::collections::VecDeque;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures::future::try_join_all;
use meter_store::{MAX_ITEMS_EXAMINED, Order, Page, StoreError};

use super::item::{Item, text};
use super::table::Table;
use crate::error::classify;

/// A list.
pub(super) trait MergedQuery: Sync {
    /// Names a partition.
    type Partition: Copy + Send;
    /// What is listed.
    type Row: Send;

    /// By position.
    fn order(&self) -> Order;

    /// Where a row stands: differs from that of every other row, and sorts as the rows do.
    fn position(&self, row: &Self::Row) -> String;

    /// Whether the row is among those asked for.
    fn matches(&self, _row: &Self::Row) -> bool {
        true
    }

    /// The next rows of a stream behind a position, in order.
    fn read(
        &self,
        stream: Self::Partition,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<RowBatch<Self::Row>, StoreError>> + Send;
}

/// Some rows of a stream.
#[derive(Debug)]
pub(super) struct RowBatch<R> {
    rows: Vec<R>,
    /// Whether there may be more behind the last one.
    more: bool,
}

/// A partition of a table or of an index.
#[derive(Debug)]
pub(super) struct PartitionQuery {
    /// None: the table's own.
    pub(super) index: Option<&'static str>,
    /// The attribute that names it.
    pub(super) partition_key: &'static str,
    /// Its name.
    pub(super) name: String,
    /// The attribute that it is sorted by.
    pub(super) sort_key: &'static str,
}

impl PartitionQuery {
    /// Its items from the last one on query_descending, or from a sort key on without that.
    pub(super) fn query_descending(self, table: &Table, after: Option<&str>) -> QueryFluentBuilder {
        let query = table
            .client
            .query()
            .table_name(&table.name)
            .set_index_name(self.index.map(str::to_owned))
            .scan_index_forward(false);
        match after {
            None => query
                .key_condition_expression("#partition_key = :partition")
                .expression_attribute_names("#partition_key", self.partition_key)
                .expression_attribute_values(":partition", text(self.name)),
            Some(after) => query
                .key_condition_expression("#partition_key = :partition AND #sort_key < :after")
                .expression_attribute_names("#partition_key", self.partition_key)
                .expression_attribute_names("#sort_key", self.sort_key)
                .expression_attribute_values(":partition", text(self.name))
                .expression_attribute_values(":after", text(after)),
        }
    }
}

/// Sends a query of a stream.
pub(super) async fn fetch_rows<R>(
    query: QueryFluentBuilder,
    limit: usize,
    decode: impl Fn(Item) -> Result<R, StoreError>,
) -> Result<RowBatch<R>, StoreError> {
    let answer = query
        .limit(i32::try_from(limit.max(1)).unwrap_or(i32::MAX))
        .send()
        .await
        .map_err(classify("dynamodb:Query"))?;
    let more = answer.last_evaluated_key.is_some_and(|key| !key.is_empty());
    let items = answer.items.unwrap_or_default().into_iter();
    Ok(RowBatch { rows: items.map(decode).collect::<Result<_, _>>()?, more })
}

/// How many rows a request may still examine.
#[derive(Debug)]
pub(super) struct ReadBudget(usize);

impl Default for ReadBudget {
    fn default() -> Self {
        Self(MAX_ITEMS_EXAMINED)
    }
}

impl ReadBudget {
    /// Takes the price of `rows`; whether they could be paid.
    pub(super) fn spend(&mut self, rows: usize) -> bool {
        let paid = self.0.checked_sub(rows);
        self.0 = paid.unwrap_or(0);
        paid.is_some()
    }
}

/// Reads a page of at most `limit` rows. There is a next page exactly when there is another row.
pub(super) async fn read_page<L: MergedQuery>(
    listing: &L,
    streams: impl IntoIterator<Item = L::Partition>,
    after: Option<&str>,
    limit: usize,
    budget: &mut ReadBudget,
) -> Result<Page<L::Row>, StoreError> {
    let mut merge = Merge::new(listing, streams, after, limit);
    let mut items = Vec::new();
    let mut last = after.map(str::to_owned);
    loop {
        merge.refill().await?;
        let Some(stream) = merge.next_partition() else {
            return Ok(Page { items, next: None });
        };
        if items.len() >= limit || !budget.spend(1) {
            return Ok(Page { items, next: last });
        }
        if let Some((position, row)) = stream.rows.pop_front() {
            last = Some(position);
            if listing.matches(&row) {
                items.push(row);
            }
        }
    }
}

/// What is read of the streams and not merged yet.
struct Merge<'a, L: MergedQuery> {
    listing: &'a L,
    streams: Vec<Partition<L>>,
    /// How many rows to read of a stream at once. A page takes about the same number from each; a filter
    /// makes it take more, hence it grows.
    chunk: usize,
    max_chunk: usize,
}

struct Partition<L: MergedQuery> {
    name: L::Partition,
    /// With their positions.
    rows: VecDeque<(String, L::Row)>,
    /// The position of the last row read.
    after: Option<String>,
    more: bool,
}

impl<'a, L: MergedQuery> Merge<'a, L> {
    fn new(
        listing: &'a L,
        streams: impl IntoIterator<Item = L::Partition>,
        after: Option<&str>,
        limit: usize,
    ) -> Self {
        let streams: Vec<_> = streams
            .into_iter()
            .map(|name| Partition {
                name,
                rows: VecDeque::new(),
                after: after.map(str::to_owned),
                more: true,
            })
            .collect();
        // One more than the page, to know whether there is a next one. Of several streams some hold
        // more of the page than others: two standard deviations cover most of that.
        let share = limit.saturating_add(1).div_ceil(streams.len().max(1));
        let spread = if streams.len() > 1 { 2 * share.isqrt() } else { 0 };
        let max_chunk = (MAX_ITEMS_EXAMINED / streams.len().max(1)).max(share + spread);
        Self {
            listing,
            chunk: share + spread,
            max_chunk: max_chunk.min(MAX_ITEMS_EXAMINED + 1),
            streams,
        }
    }

    /// Reads on until each stream has a row or has ended.
    async fn refill(&mut self) -> Result<(), StoreError> {
        let is_dry = |stream: &Partition<L>| stream.more && stream.rows.is_empty();
        while self.streams.iter().any(is_dry) {
            let (listing, chunk) = (self.listing, self.chunk.min(self.max_chunk));
            // Those that are about to run dry come along: one round trip for all.
            let is_low = |stream: &&mut Partition<L>| stream.more && stream.rows.len() <= chunk / 4;
            let low = self.streams.iter_mut().filter(is_low);
            try_join_all(low.map(|stream| stream.read(listing, chunk))).await?;
            self.chunk = (chunk * 2).min(self.max_chunk);
        }
        Ok(())
    }

    /// The stream whose row is the next one.
    fn next_partition(&mut self) -> Option<&mut Partition<L>> {
        let position =
            |stream: &Partition<L>| stream.rows.front().map(|(position, _)| position.clone());
        let streams = self.streams.iter_mut().filter(|s| !s.rows.is_empty());
        match self.listing.order() {
            Order::Ascending => streams.min_by_key(|stream| position(stream)),
            Order::Descending => streams.max_by_key(|stream| position(stream)),
        }
    }
}

impl<L: MergedQuery> Partition<L> {
    async fn read(&mut self, listing: &L, limit: usize) -> Result<(), StoreError> {
        let RowBatch { rows, more } = listing.read(self.name, self.after.as_deref(), limit).await?;
        let rows = rows.into_iter().map(|row| (listing.position(&row), row));
        self.rows.extend(rows);
        self.more = more;
        if let Some((position, _)) = self.rows.back() {
            self.after = Some(position.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// Numbers, each in one of some streams, of which only multiples of `of` are asked for.
    struct Numbers {
        streams: Vec<Vec<u32>>,
        of: u32,
        order: Order,
        read: AtomicUsize,
    }

    impl MergedQuery for Numbers {
        type Partition = usize;
        type Row = u32;

        fn order(&self) -> Order {
            self.order
        }

        fn position(&self, row: &u32) -> String {
            format!("{row:06}")
        }

        fn matches(&self, row: &u32) -> bool {
            row.is_multiple_of(self.of)
        }

        async fn read(
            &self,
            stream: usize,
            after: Option<&str>,
            limit: usize,
        ) -> Result<RowBatch<u32>, StoreError> {
            let mut rows = self.streams[stream].clone();
            rows.sort_unstable();
            match self.order {
                Order::Ascending => {
                    rows.retain(|row| {
                        after.is_none_or(|after| self.position(row).as_str() > after)
                    });
                }
                Order::Descending => {
                    rows.reverse();
                    rows.retain(|row| {
                        after.is_none_or(|after| self.position(row).as_str() < after)
                    });
                }
            }
            // As DynamoDB, which says "perhaps" when the limit and the last row coincide.
            let more = rows.len() >= limit;
            rows.truncate(limit);
            self.read.fetch_add(rows.len(), Ordering::Relaxed);
            Ok(RowBatch { rows, more })
        }
    }

    fn numbers(streams: Vec<Vec<u32>>, of: u32, order: Order) -> Numbers {
        Numbers { streams, of, order, read: AtomicUsize::new(0) }
    }

    /// Every row, page by page; the number of pages.
    fn read_all_pages(list: &Numbers, limit: usize) -> (Vec<u32>, usize) {
        let (mut all, mut pages, mut after) = (Vec::new(), 0, None::<String>);
        loop {
            let mut budget = ReadBudget::default();
            let page = read_page(list, 0..list.streams.len(), after.as_deref(), limit, &mut budget)
                .now_or_never()
                .unwrap()
                .unwrap();
            assert!(page.items.len() <= limit);
            all.extend(page.items);
            pages += 1;
            match page.next {
                Some(next) => assert_ne!(Some(&next), after.replace(next.clone()).as_ref()),
                None => return (all, pages),
            }
        }
    }

    #[test]
    fn a_full_page_has_a_next_one_only_when_there_is_another_row() {
        let list = numbers(vec![(0..20).collect()], 1, Order::Ascending);
        assert_eq!(read_all_pages(&list, 20).1, 1);
        assert_eq!(read_all_pages(&list, 19).1, 2);
        assert_eq!(read_all_pages(&list, 10).1, 2);
    }

    #[test]
    fn a_thousand_rows_in_sixteen_streams_are_one_page_and_not_many_more_are_read() {
        let streams = (0..16).map(|s| (0..200).map(|i| i * 16 + s).collect());
        let list = numbers(streams.collect(), 1, Order::Descending);
        let mut budget = ReadBudget::default();
        let page =
            read_page(&list, 0..16, None, 1_000, &mut budget).now_or_never().unwrap().unwrap();
        assert_eq!(page.items, (2_200..3_200).rev().collect::<Vec<_>>());
        assert!(list.read.load(Ordering::Relaxed) < 1_500);
    }

    #[test]
    fn a_narrow_filter_ends_the_page_when_the_budget_is_spent() {
        let streams = (0..16).map(|s| (0..500).map(|i| i * 16 + s).collect());
        let list = numbers(streams.collect(), 5_000, Order::Ascending);
        let mut budget = ReadBudget::default();
        let first = read_page(&list, 0..16, None, 10, &mut budget).now_or_never().unwrap().unwrap();
        assert_eq!(first.items, [0]);
        assert_eq!(first.next.as_deref(), Some("000999"));
        assert!(list.read.load(Ordering::Relaxed) < 2 * MAX_ITEMS_EXAMINED);
        let (all, pages) = read_all_pages(&list, 10);
        assert_eq!((all, pages), (vec![0, 5_000], 8));
    }

    proptest! {
        #[test]
        fn pages_put_together_are_the_sorted_list(
            rows in prop::collection::btree_set(0u32..3_000, 0..300),
            streams in 1usize..6, limit in 1usize..40, of in 1u32..4, descending: bool, salt: u32,
        ) {
            let mut spread = vec![Vec::new(); streams];
            for row in &rows {
                spread[(row.wrapping_mul(2_654_435_761) ^ salt) as usize % streams].push(*row);
            }
            let order = if descending { Order::Descending } else { Order::Ascending };
            let mut expected: Vec<u32> = rows.into_iter().filter(|row| row % of == 0).collect();
            if descending { expected.reverse() }
            let (all, _) = read_all_pages(&numbers(spread, of, order), limit);
            prop_assert_eq!(all, expected);
        }
    }
}
