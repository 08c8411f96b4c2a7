//! The SQL of a topic rule.
//!
//! The emulator produces the object of one statement (docs/adr/0001), and accepts only that
//! statement. Any other would give a different result on AWS without an error.

use rumqttc::v5::mqttbytes::valid_filter;

const SELECT: &str = "SELECT encode(*, 'base64') AS payload, topic() AS topic, \
                      timestamp() AS received_at, principal() AS principal";

/// Returns the topic filter in the `FROM` clause of a rule.
pub(super) fn topic_filter(sql: &str) -> Result<String, String> {
    let problem = || format!("Sql: only `{SELECT} FROM 'TOPIC FILTER'` is supported, not `{sql}`");
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
        Err(format!("Sql: '{filter}' is not an MQTT topic filter"))
    }
}

/// Splits a statement at the first word `FROM`.
fn split_at_from(sql: &str) -> Option<(&str, &str)> {
    let from = sql.split_whitespace().find(|word| word.eq_ignore_ascii_case("from"))?;
    // Both are slices of the same text, so the difference of their addresses is the position.
    let start = from.as_ptr() as usize - sql.as_ptr() as usize;
    Some((&sql[..start], &sql[start + from.len()..]))
}

/// Removes white space and case, which are not significant here.
fn normalize(sql: &str) -> String {
    sql.split_whitespace().collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::topic_filter;

    #[test]
    fn topic_filter_is_parsed_from_the_from_clause() {
        let sql = "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
                   principal() AS principal FROM 'iot/+/telemetry'";
        assert_eq!(topic_filter(sql).unwrap(), "iot/+/telemetry");
    }

    #[test]
    fn sql_layout_and_case_are_not_significant() {
        let sql = "select  encode( *,'base64')  as payload, topic() as topic,\n  timestamp() as received_at, \
                   principal() as principal\nfrom\n  'iot/+/command/ack'\n";
        assert_eq!(topic_filter(sql).unwrap(), "iot/+/command/ack");
    }

    #[test]
    fn unsupported_statement_is_rejected() {
        for sql in [
            "SELECT * FROM 'iot/+/telemetry'",
            "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at FROM 'a'",
            "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
             principal() AS principal FROM 'a' WHERE v = 2",
            "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
             principal() AS principal",
            "",
        ] {
            assert!(topic_filter(sql).unwrap_err().contains("is supported, not"), "{sql}");
        }
    }

    #[test]
    fn invalid_topic_filter_is_rejected() {
        let sql = "SELECT encode(*, 'base64') AS payload, topic() AS topic, timestamp() AS received_at, \
                   principal() AS principal FROM 'iot/#/telemetry'";
        assert!(topic_filter(sql).unwrap_err().contains("iot/#/telemetry"));
    }
}
