//! The SQL of the queries.
//!
//! Values of a request appear in a query only as numbers or as quoted texts, whose alphabet was
//! checked before.

use meter_domain::aggregate::WindowSize;
use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;

use super::record::{MEASURE_NAME, columns};

/// The quoted name of a table.
#[derive(Debug, Clone)]
pub(super) struct TableRef(String);

impl TableRef {
    pub(super) fn new(database: &str, table: &str) -> Self {
        Self(format!("{}.{}", quoted_name(database), quoted_name(table)))
    }

    /// A query that returns one row if the table has a record. It names no column, so that it is
    /// valid for a table without columns.
    pub(super) fn any_record(&self) -> String {
        format!("SELECT 1 FROM {} LIMIT 1", self.0)
    }
}

/// The records of a device from `start` to before `stop`.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordFilter<'a> {
    pub(super) table_ref: &'a TableRef,
    pub(super) device_id: &'a DeviceId,
    pub(super) start: Timestamp,
    pub(super) stop: Timestamp,
}

/// Quotes the name of a column or table.
fn quoted_name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Quotes a text value.
fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Formats an instant. Timestream has no instants before 1970.
fn instant_literal(t: Timestamp) -> String {
    let nanos = i64::try_from(t.as_nanos().max(0)).unwrap_or(i64::MAX);
    format!("from_nanoseconds({nanos})")
}

impl RecordFilter<'_> {
    fn condition(&self) -> String {
        format!(
            "FROM {} WHERE device_id = {} AND measure_name = {} AND time >= {} AND time < {}",
            self.table_ref.0,
            quoted_text(self.device_id.as_str()),
            quoted_text(MEASURE_NAME),
            instant_literal(self.start),
            instant_literal(self.stop)
        )
    }

    /// Selects records in order of time, each with all its points.
    pub(super) fn records(&self, metric: Option<&MetricName>, limit: usize) -> String {
        let mut selected: Vec<String> =
            ["time", "sample_index", "precedence", "metric", "value", "unit"]
                .map(str::to_owned)
                .to_vec();
        selected.extend(columns().map(|column| quoted_name(column.as_str())));
        let selected = selected.join(", ");
        let only = metric.map(|metric| format!(" AND {}", has_metric(metric))).unwrap_or_default();
        format!("SELECT {selected} {}{only} ORDER BY time LIMIT {limit}", self.condition())
    }

    /// Counts the values of each column, in a row for each metric without a column of its own and a
    /// row for all metrics that have one.
    pub(super) fn metrics(&self) -> String {
        let counts: Vec<_> =
            columns().map(|c| format!("count({0}) AS {0}", quoted_name(c.as_str()))).collect();
        format!("SELECT metric, {} {} GROUP BY metric", counts.join(", "), self.condition())
    }

    /// Aggregates the first windows of a metric in three steps: of the records with the same point,
    /// the one with the greatest precedence; of the points of an instant, in order of their sample
    /// index; of the instants of a window.
    pub(super) fn windows(&self, metric: &MetricName, every: WindowSize, limit: usize) -> String {
        let value = match metric.known() {
            Some(known) => format!("COALESCE({}, value)", quoted_name(known.name)),
            None => "value".to_owned(),
        };
        let window = format!("bin(time, {}s)", every.as_seconds());
        format!(
            "WITH samples AS (SELECT time, sample_index, precedence, {value} AS v, unit AS u {} AND {}), \
             points AS (SELECT time, sample_index, max_by(v, precedence) AS v, max_by(COALESCE(u, ''), precedence) AS u \
             FROM samples GROUP BY time, sample_index), \
             instants AS (SELECT time, count(v) AS n, sum(v) AS s, min(v) AS low, max(v) AS high, \
             min_by(v, sample_index) AS f, max_by(v, sample_index) AS l, max_by(u, sample_index) AS u \
             FROM points GROUP BY time) \
             SELECT {window} AS w, sum(n) AS n, sum(s) AS s, min(low) AS low, max(high) AS high, \
             min_by(f, time) AS f, max_by(l, time) AS l, max_by(u, time) AS u \
             FROM instants GROUP BY {window} ORDER BY w LIMIT {limit}",
            self.condition(),
            has_metric(metric)
        )
    }
}

/// The condition of records that hold a point of a metric.
fn has_metric(metric: &MetricName) -> String {
    let custom = format!("metric = {}", quoted_text(metric.as_str()));
    match metric.known() {
        Some(known) => format!("({} IS NOT NULL OR {custom})", quoted_name(known.name)),
        None => custom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_are_quoted() {
        assert_eq!(quoted_text("a'b"), "'a''b'");
        assert_eq!(quoted_name("a\"b"), "\"a\"\"b\"");
        let table = TableRef::new("d", "t");
        let device_id = DeviceId::parse("m").unwrap();
        let (start, stop) = (Timestamp::min(), Timestamp::EPOCH.plus_seconds(1));
        let filter = RecordFilter { table_ref: &table, device_id: &device_id, start, stop };
        assert_eq!(
            filter.condition(),
            "FROM \"d\".\"t\" WHERE device_id = 'm' AND measure_name = 'iot_telemetry' \
             AND time >= from_nanoseconds(0) AND time < from_nanoseconds(1000000000)"
        );
    }
}
