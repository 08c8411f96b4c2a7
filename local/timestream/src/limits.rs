//! Which names and how many of what: quotas and naming constraints of
//! <https://docs.aws.amazon.com/timestream/latest/developerguide/ts-limits.html>.

/// Records in a `WriteRecords`.
pub(crate) const MAX_RECORDS: usize = 100;
/// Dimensions of a record, and of a table.
pub(crate) const MAX_DIMENSIONS: usize = 128;
/// Measures in a multi-measure record.
pub(crate) const MAX_MEASURES_PER_RECORD: usize = 256;
/// Different measures in the multi-measure records of a table.
pub(crate) const MAX_MULTI_MEASURES_PER_TABLE: usize = 1_024;
/// Different measure names in a table.
pub(crate) const MAX_MEASURE_NAMES_PER_TABLE: i64 = 8_192;
/// Bytes of all values of a record; a number counts 8. Names do not count: the quota is of the «measure value
/// size per multi-measure record», and 256 doubles are just allowed.
pub(crate) const MAX_VALUE_BYTES: usize = 2_048;
/// Bytes of all dimensions of a record, names and values.
pub(crate) const MAX_DIMENSION_BYTES: usize = 2_048;
/// Bytes of a dimension's name.
pub(crate) const MAX_DIMENSION_NAME_BYTES: usize = 60;
/// Bytes of a measure's name.
pub(crate) const MAX_MEASURE_NAME_BYTES: usize = 256;
/// How far ahead of the clock a record may be.
pub(crate) const MAX_FUTURE_NANOS: i64 = 15 * 60 * crate::instant::NANOS_PER_SECOND;
/// Databases of an account.
pub(crate) const MAX_DATABASES: i64 = 500;

/// The name of a database or a table: 3 to 256 of letters, digits, `_`, `-` and `.`.
pub(crate) fn check_resource_name(what: &str, name: &str) -> Result<(), String> {
    let right = (3..=256).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if right {
        Ok(())
    } else {
        Err(format!(
            "{what} '{name}' is not valid: 3 to 256 letters, digits, '_', '-' and '.' are expected"
        ))
    }
}

/// The name of a dimension, which becomes a column.
pub(crate) fn check_dimension_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_DIMENSION_NAME_BYTES {
        return Err(format!(
            "The dimension name '{name}' must have 1 to {MAX_DIMENSION_NAME_BYTES} bytes."
        ));
    }
    check_column_name(name)
}

/// The name of a measure within a multi-measure record, which becomes a column.
pub(crate) fn check_measure_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_MEASURE_NAME_BYTES {
        return Err(format!(
            "The measure name '{name}' must have 1 to {MAX_MEASURE_NAME_BYTES} bytes."
        ));
    }
    check_column_name(name)
}

/// «System identifiers» of the page above: columns that the service makes itself.
fn check_column_name(name: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    if lower == "time"
        || ["measure_name", "measure_value", "ts_"].iter().any(|start| lower.starts_with(start))
    {
        return Err(format!("The name '{name}' is reserved by Timestream."));
    }
    if name.contains(':') || name.chars().any(char::is_control) {
        return Err(format!("The name '{name}' has a colon or a control character."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_makes_itself_nobody_else_can_name() {
        for name in
            ["time", "Time", "measure_name", "measure_value", "measure_value::double", "ts_x"]
        {
            assert!(check_dimension_name(name).is_err(), "{name}");
            assert!(check_measure_name(name).is_err(), "{name}");
        }
        for name in ["timer", "device_id", "voltage-dc", "spannung in V", "größe", "1st"] {
            assert_eq!(check_measure_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_dimension_is_shorter_than_a_measure() {
        let name = "n".repeat(61);
        assert!(check_dimension_name(&name).is_err());
        assert!(check_measure_name(&name).is_ok());
        assert!(check_measure_name(&"n".repeat(257)).is_err());
    }

    #[test]
    fn a_database_is_named_by_three_plain_characters_or_more() {
        for name in ["iot-meter", "a.b", "A_1", &"d".repeat(256)] {
            assert_eq!(check_resource_name("DatabaseName", name), Ok(()));
        }
        for name in ["", "ab", "a b c", "iot/meter", "größe", "x\"; drop", &"d".repeat(257)] {
            assert!(check_resource_name("DatabaseName", name).is_err(), "{name}");
        }
    }
}
