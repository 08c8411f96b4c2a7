//! Pages of lists whose rows are spread over partitions: a merge of queries that examines at most
//! [`MAX_ITEMS_EXAMINED`] rows.
//!
//! The position of a page is the position of its last row. It is valid for every partition: each
//! continues after it, whichever partition the row came from.

use std::collections::VecDeque;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures::future::try_join_all;
use meter_store::{MAX_ITEMS_EXAMINED, Order, Page, StoreError};

use super::item::{Item, text};
use super::table::Table;
use crate::error::classify;

/// A list of rows in one or more partitions.
pub(super) trait MergedQuery: Sync {
    /// The identifier of a partition.
    type Partition: Copy + Send;
    type Row: Send;

    /// The order of positions.
    fn order(&self) -> Order;

    /// Returns the position of a row, which is unique and sorts like the rows.
    fn position(&self, row: &Self::Row) -> String;

    /// Returns whether a row matches the filter.
    fn matches(&self, _row: &Self::Row) -> bool {
        true
    }

    /// Reads the next rows of a partition after a position, in order.
    fn read(
        &self,
        partition: Self::Partition,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<RowBatch<Self::Row>, StoreError>> + Send;
}

/// Rows of a partition.
#[derive(Debug)]
pub(super) struct RowBatch<R> {
    rows: Vec<R>,
    /// Whether there may be more rows after the last one.
    more: bool,
}

/// A partition of a table or of an index.
#[derive(Debug)]
pub(super) struct PartitionQuery {
    /// The name of the index; `None` for the table.
    pub(super) index: Option<&'static str>,
    /// The name of the partition key attribute.
    pub(super) partition_key: &'static str,
    /// The value of the partition key.
    pub(super) name: String,
    /// The name of the sort key attribute.
    pub(super) sort_key: &'static str,
}

impl PartitionQuery {
    /// Queries the items in descending order, from the last one or from below a sort key.
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

/// Sends a query of a partition.
pub(super) async fn fetch_rows<R>(
    query: QueryFluentBuilder,
    limit: usize,
    decode: impl Fn(Item) -> Result<R, StoreError>,
) -> Result<RowBatch<R>, StoreError> {
    let response = query
        .limit(i32::try_from(limit.max(1)).unwrap_or(i32::MAX))
        .send()
        .await
        .map_err(classify("dynamodb:Query"))?;
    let more = response.last_evaluated_key.is_some_and(|key| !key.is_empty());
    let items = response.items.unwrap_or_default().into_iter();
    Ok(RowBatch { rows: items.map(decode).collect::<Result<_, _>>()?, more })
}

/// The number of rows that a request may still examine.
#[derive(Debug)]
pub(super) struct ReadBudget(usize);

impl Default for ReadBudget {
    fn default() -> Self {
        Self(MAX_ITEMS_EXAMINED)
    }
}

impl ReadBudget {
    /// Subtracts `rows`; returns whether the budget was sufficient.
    pub(super) fn spend(&mut self, rows: usize) -> bool {
        let rest = self.0.checked_sub(rows);
        self.0 = rest.unwrap_or(0);
        rest.is_some()
    }
}

/// Reads a page of at most `limit` rows, which has a next page only if there is another row.
pub(super) async fn read_page<L: MergedQuery>(
    list: &L,
    partitions: impl IntoIterator<Item = L::Partition>,
    after: Option<&str>,
    limit: usize,
    budget: &mut ReadBudget,
) -> Result<Page<L::Row>, StoreError> {
    let mut merge = Merge::new(list, partitions, after, limit);
    let mut items = Vec::new();
    let mut last = after.map(str::to_owned);
    loop {
        merge.refill().await?;
        let Some(partition) = merge.next_partition() else {
            return Ok(Page { items, next: None });
        };
        if items.len() >= limit || !budget.spend(1) {
            return Ok(Page { items, next: last });
        }
        if let Some((position, row)) = partition.rows.pop_front() {
            last = Some(position);
            if list.matches(&row) {
                items.push(row);
            }
        }
    }
}

/// The rows of partitions that are read and not yet merged.
struct Merge<'a, L: MergedQuery> {
    list: &'a L,
    partitions: Vec<Partition<L>>,
    /// Rows in one read of a partition. A page takes about the same number from each; it grows
    /// because a filter makes a page take more.
    chunk: usize,
    max_chunk: usize,
}

struct Partition<L: MergedQuery> {
    name: L::Partition,
    /// Rows with their positions.
    rows: VecDeque<(String, L::Row)>,
    /// The position of the last row read.
    after: Option<String>,
    more: bool,
}

impl<'a, L: MergedQuery> Merge<'a, L> {
    fn new(
        list: &'a L,
        partitions: impl IntoIterator<Item = L::Partition>,
        after: Option<&str>,
        limit: usize,
    ) -> Self {
        let partitions: Vec<_> = partitions
            .into_iter()
            .map(|name| Partition {
                name,
                rows: VecDeque::new(),
                after: after.map(str::to_owned),
                more: true,
            })
            .collect();
        // One row more than the page, to detect whether there is a next page. Partitions hold
        // different shares of a page: two standard deviations cover most of the difference.
        let share = limit.saturating_add(1).div_ceil(partitions.len().max(1));
        let spread = if partitions.len() > 1 { 2 * share.isqrt() } else { 0 };
        let max_chunk = (MAX_ITEMS_EXAMINED / partitions.len().max(1)).max(share + spread);
        Self {
            list,
            chunk: share + spread,
            max_chunk: max_chunk.min(MAX_ITEMS_EXAMINED + 1),
            partitions,
        }
    }

    /// Reads until each partition has a row or has ended.
    async fn refill(&mut self) -> Result<(), StoreError> {
        let is_empty = |partition: &Partition<L>| partition.more && partition.rows.is_empty();
        while self.partitions.iter().any(is_empty) {
            let (list, chunk) = (self.list, self.chunk.min(self.max_chunk));
            // Partitions with few rows left are read in the same round trip.
            let is_low =
                |partition: &&mut Partition<L>| partition.more && partition.rows.len() <= chunk / 4;
            let low = self.partitions.iter_mut().filter(is_low);
            try_join_all(low.map(|partition| partition.read(list, chunk))).await?;
            self.chunk = (chunk * 2).min(self.max_chunk);
        }
        Ok(())
    }

    /// Returns the partition with the next row.
    fn next_partition(&mut self) -> Option<&mut Partition<L>> {
        let position =
            |partition: &Partition<L>| partition.rows.front().map(|(position, _)| position.clone());
        let partitions = self.partitions.iter_mut().filter(|s| !s.rows.is_empty());
        match self.list.order() {
            Order::Ascending => partitions.min_by_key(|partition| position(partition)),
            Order::Descending => partitions.max_by_key(|partition| position(partition)),
        }
    }
}

impl<L: MergedQuery> Partition<L> {
    async fn read(&mut self, list: &L, limit: usize) -> Result<(), StoreError> {
        let RowBatch { rows, more } = list.read(self.name, self.after.as_deref(), limit).await?;
        let rows = rows.into_iter().map(|row| (list.position(&row), row));
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

    /// Numbers in partitions, with a filter for the multiples of `of`.
    struct Numbers {
        partitions: Vec<Vec<u32>>,
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
            partition: usize,
            after: Option<&str>,
            limit: usize,
        ) -> Result<RowBatch<u32>, StoreError> {
            let mut rows = self.partitions[partition].clone();
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
            // Like DynamoDB, which reports possible further rows if the limit ends at the last row.
            let more = rows.len() >= limit;
            rows.truncate(limit);
            self.read.fetch_add(rows.len(), Ordering::Relaxed);
            Ok(RowBatch { rows, more })
        }
    }

    fn numbers(partitions: Vec<Vec<u32>>, of: u32, order: Order) -> Numbers {
        Numbers { partitions, of, order, read: AtomicUsize::new(0) }
    }

    /// Returns all rows, read page by page, and the number of pages.
    fn read_all_pages(list: &Numbers, limit: usize) -> (Vec<u32>, usize) {
        let (mut all, mut pages, mut after) = (Vec::new(), 0, None::<String>);
        loop {
            let mut budget = ReadBudget::default();
            let page =
                read_page(list, 0..list.partitions.len(), after.as_deref(), limit, &mut budget)
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
    fn full_page_has_a_next_page_only_with_further_rows() {
        let list = numbers(vec![(0..20).collect()], 1, Order::Ascending);
        assert_eq!(read_all_pages(&list, 20).1, 1);
        assert_eq!(read_all_pages(&list, 19).1, 2);
        assert_eq!(read_all_pages(&list, 10).1, 2);
    }

    #[test]
    fn page_of_sixteen_partitions_reads_few_surplus_rows() {
        let partitions = (0..16).map(|s| (0..200).map(|i| i * 16 + s).collect());
        let list = numbers(partitions.collect(), 1, Order::Descending);
        let mut budget = ReadBudget::default();
        let page =
            read_page(&list, 0..16, None, 1_000, &mut budget).now_or_never().unwrap().unwrap();
        assert_eq!(page.items, (2_200..3_200).rev().collect::<Vec<_>>());
        assert!(list.read.load(Ordering::Relaxed) < 1_500);
    }

    #[test]
    fn page_ends_when_the_read_budget_is_spent() {
        let partitions = (0..16).map(|s| (0..500).map(|i| i * 16 + s).collect());
        let list = numbers(partitions.collect(), 5_000, Order::Ascending);
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
        fn all_pages_together_are_the_sorted_list(
            rows in prop::collection::btree_set(0u32..3_000, 0..300),
            partitions in 1usize..6, limit in 1usize..40, of in 1u32..4, descending: bool, salt: u32,
        ) {
            let mut spread = vec![Vec::new(); partitions];
            for row in &rows {
                spread[(row.wrapping_mul(2_654_435_761) ^ salt) as usize % partitions].push(*row);
            }
            let order = if descending { Order::Descending } else { Order::Ascending };
            let mut expected: Vec<u32> = rows.into_iter().filter(|row| row % of == 0).collect();
            if descending { expected.reverse() }
            let (all, _) = read_all_pages(&numbers(spread, of, order), limit);
            prop_assert_eq!(all, expected);
        }
    }
}
