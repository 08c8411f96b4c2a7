//! Decoding of query results.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use aws_sdk_timestreamquery::types::{ColumnInfo, Row};
use meter_domain::aggregate::{Aggregate, CompensatedSum, Summary, Window, WindowKey};
use meter_domain::metric::{MetricName, Point, PointKey, TimedValue};
use meter_domain::time::Timestamp;
use meter_store::{PointPage, PointQuery, StoreError};

use super::record::{columns, parse_precedence};

/// Reads the values of a row by column name.
pub(super) struct RowReader<'a> {
    columns: &'a [ColumnInfo],
    row: &'a Row,
}

fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt {
        what: "Timestream row".to_owned(),
        reason: format!("{column} is missing or has an invalid value"),
    }
}

impl<'a> RowReader<'a> {
    pub(super) fn new(columns: &'a [ColumnInfo], row: &'a Row) -> Self {
        Self { columns, row }
    }

    fn text(&self, column: &str) -> Option<&'a str> {
        let index = self.columns.iter().position(|info| info.name() == Some(column))?;
        self.row.data().get(index)?.scalar_value()
    }

    fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.text(column).map(|text| text.parse().map_err(|_| corrupt(column))).transpose()
    }

    fn required<T: std::str::FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.parsed(column)?.ok_or_else(|| corrupt(column))
    }

    /// Parses an instant in the format `2026-01-01 12:00:00.000000000`, in UTC.
    fn instant(&self, column: &str) -> Result<Timestamp, StoreError> {
        let text = self.text(column).ok_or_else(|| corrupt(column))?;
        Timestamp::parse(&format!("{}Z", text.replacen(' ', "T", 1))).map_err(|_| corrupt(column))
    }

    fn metric(&self) -> Result<Option<MetricName>, StoreError> {
        let name = self.text("metric").map(MetricName::parse).transpose();
        name.map_err(|_| corrupt("metric"))
    }

    /// Returns the metrics in a row of counts.
    pub(super) fn metrics(&self) -> Result<Vec<MetricName>, StoreError> {
        let mut metrics: Vec<_> = self.metric()?.into_iter().collect();
        for column in columns() {
            if self.parsed::<u64>(column.as_str())?.unwrap_or(0) > 0 {
                metrics.push(column);
            }
        }
        Ok(metrics)
    }
}

/// The points of one instant; of points with one key, the one with the greatest precedence.
#[derive(Debug, Default)]
pub(super) struct PointsAtInstant {
    time: Option<Timestamp>,
    points: BTreeMap<PointKey, Point>,
}

impl PointsAtInstant {
    /// Returns whether a record is of a later instant.
    pub(super) fn is_later(&self, row: &RowReader<'_>) -> Result<bool, StoreError> {
        let time = row.instant("time")?;
        Ok(self.time.is_some_and(|held| held != time))
    }

    /// Adds the points of a record, or only those of one metric.
    pub(super) fn add_record(
        &mut self,
        row: &RowReader<'_>,
        only: Option<&MetricName>,
    ) -> Result<(), StoreError> {
        let time = row.instant("time")?;
        self.time = Some(time);
        let precedence = row
            .text("precedence")
            .and_then(parse_precedence)
            .ok_or_else(|| corrupt("precedence"))?;
        let sample_index = row.required("sample_index")?;
        let mut values = Vec::new();
        if let Some(metric) = row.metric()? {
            values.push((metric, row.required("value")?, row.text("unit").map(str::to_owned)));
        }
        for column in columns() {
            if let Some(value) = row.parsed(column.as_str())? {
                values.push((column, value, None));
            }
        }
        for (metric, value, unit) in values {
            if only.is_some_and(|only| *only != metric) {
                continue;
            }
            let key = PointKey { time, metric, sample_index };
            let point = Point { key: key.clone(), value, unit, precedence };
            match self.points.entry(key) {
                Entry::Occupied(mut held) if held.get().precedence < precedence => {
                    drop(held.insert(point))
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(vacant) => drop(vacant.insert(point)),
            }
        }
        Ok(())
    }

    /// Moves the points to a page. Sets its next position if the page is full.
    pub(super) fn append_to(self, page: &mut PointPage, query: &PointQuery) {
        let is_selected = |key: &PointKey| query.after.as_ref().is_none_or(|after| *key > *after);
        for (_, point) in self.points.into_iter().filter(|(key, _)| is_selected(key)) {
            if page.points.len() == query.limit {
                page.next = page.points.last().map(|last| last.key.clone());
                return;
            }
            page.points.push(point);
        }
    }
}

/// Decodes a window of a metric.
pub(super) fn decode_window(
    row: &RowReader<'_>,
    metric: &MetricName,
    aggregate: Aggregate,
) -> Result<Window, StoreError> {
    let start = row.instant("w")?;
    let timed_value =
        |column| Ok::<_, StoreError>(TimedValue { time: start, value: row.required(column)? });
    let sum = CompensatedSum { high: row.required("s")?, low: 0.0 };
    let summary = Summary {
        count: row.required("n")?,
        sum,
        min: row.required("low")?,
        max: row.required("high")?,
        first: timed_value("f")?,
        last: timed_value("l")?,
        area: CompensatedSum::default(),
    };
    let unit = row.text("u").filter(|unit| !unit.is_empty());
    let key = WindowKey { start, metric: metric.clone() };
    Ok(Window::of(key, &summary, unit, aggregate))
}
