//! The SQL of a topic rule.
//!
//! The edge is no SQL engine: it produces the object of one statement (docs/adr/0001), and
//! so accepts only that statement. A rule that selects something else would otherwise work on AWS and
//! differ here without a word.

use rumqttc::v5::mqttbytes::valid_filter;

const SELECT: &str = "SELECT encode(*, 'base64') AS payload, topic() AS topic, \
                      timestamp() AS received_at, principal() AS principal";

/// The topic filter in the `FROM` of a rule.
pub(super) fn topic_filter(sql: &str) -> Result<String, String> {
    let problem =
        || format!("Sql: the edge can do `{SELECT} FROM 'TOPIC FILTER'` only, this is `{sql}`");
    let (select, from) = split_at_from(sql).ok_or_else(problem)?;
    if normalize(select) != normalize(SELECT) {
        return Err(problem());
    }
    let filter = from
        .trim()
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .filter(|filter| !filter.contains('\''))
        .ok_or_else(problem)?;
    if valid_filter(filter) {
        Ok(filter.to_owned())
    } else {
        Err(format!("Sql: '{filter}' is no MQTT topic filter"))
    }
}

/// What stands before and after the first word `FROM`.
fn split_at_from(sql: &str) -> Option<(&str, &str)> {
    let from = sql.split_whitespace().find(|word| word.eq_ignore_ascii_case("from"))?;
    // Both are slices of the same text, so the distance of their addresses is the word's position.
    let start = from.as_ptr() as usize - sql.as_ptr() as usize;
    Some((&sql[..start], &sql[start + from.len()..]))
}

/// Without blanks, and in one case: how a statement is laid out does not matter.
fn normalize(sql: &str) -> String {
    sql.split_whitespace().collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::topic_filter;

    #[test]
    fn the_filter_is_what_stands_in_from() {
        let sql = "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
                   principal() AS principal FROM 'iot/+/telemetry'";
        assert_eq!(topic_filter(sql).unwrap(), "iot/+/telemetry");
    }

    #[test]
    fn layout_and_case_do_not_matter() {
        let sql = "select  encode( *,'base64')  as payload, topic() as topic,\n  timestamp() as received_at, \
                   principal() as principal\nfrom\n  'iot/+/command/ack'\n";
        assert_eq!(topic_filter(sql).unwrap(), "iot/+/command/ack");
    }

    #[test]
    fn a_statement_whose_object_the_edge_would_not_produce_is_refused() {
        for sql in [
            "SELECT * FROM 'iot/+/telemetry'",
            "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at FROM 'a'",
            "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
             principal() AS principal FROM 'a' WHERE v = 2",
            "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
             principal() AS principal",
            "",
        ] {
            assert!(topic_filter(sql).unwrap_err().contains("the edge can do"), "{sql}");
        }
    }

    #[test]
    fn a_filter_that_no_broker_would_take_is_refused() {
        let sql = "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
                   principal() AS principal FROM 'iot/#/telemetry'";
        assert!(topic_filter(sql).unwrap_err().contains("iot/#/telemetry"));
    }
}
