//! Quotas and naming constraints of
//! <https://docs.aws.amazon.com/timestream/latest/developerguide/ts-limits.html>.

/// The maximum number of records in a `WriteRecords`.
pub(crate) const MAX_RECORDS: usize = 100;
/// The maximum number of dimensions of a record and of a table.
pub(crate) const MAX_DIMENSIONS: usize = 128;
/// The maximum number of measures in a multi-measure record.
pub(crate) const MAX_MEASURES_PER_RECORD: usize = 256;
/// The maximum number of distinct measures in the multi-measure records of a table.
pub(crate) const MAX_MULTI_MEASURES_PER_TABLE: usize = 1_024;
/// The maximum number of distinct measure names in a table.
pub(crate) const MAX_MEASURE_NAMES_PER_TABLE: i64 = 8_192;
/// The maximum size of all values of a record in bytes, with 8 for a number. Names do not count:
/// the quota is a «measure value size per multi-measure record», and 256 doubles just reach it.
pub(crate) const MAX_VALUE_BYTES: usize = 2_048;
/// The maximum size of all dimensions of a record in bytes, names and values.
pub(crate) const MAX_DIMENSION_BYTES: usize = 2_048;
/// The maximum size of a dimension name in bytes.
pub(crate) const MAX_DIMENSION_NAME_BYTES: usize = 60;
/// The maximum size of a measure name in bytes.
pub(crate) const MAX_MEASURE_NAME_BYTES: usize = 256;
/// The maximum time by which a record can be in the future.
pub(crate) const MAX_FUTURE_NANOS: i64 = 15 * 60 * crate::instant::NANOS_PER_SECOND;
/// The maximum number of databases of an account.
pub(crate) const MAX_DATABASES: i64 = 500;

/// Checks the name of a database or a table: 3 to 256 letters, digits, `_`, `-` and `.`.
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

/// Checks the name of a dimension, which becomes a column.
pub(crate) fn check_dimension_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_DIMENSION_NAME_BYTES {
        return Err(format!(
            "The dimension name '{name}' must have 1 to {MAX_DIMENSION_NAME_BYTES} bytes."
        ));
    }
    check_column_name(name)
}

/// Checks the name of a measure within a multi-measure record, which becomes a column.
pub(crate) fn check_measure_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_MEASURE_NAME_BYTES {
        return Err(format!(
            "The measure name '{name}' must have 1 to {MAX_MEASURE_NAME_BYTES} bytes."
        ));
    }
    check_column_name(name)
}

/// Checks for the «system identifiers» of the page above, which name columns of the service.
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
    fn reserved_column_names_are_rejected() {
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
    fn dimension_name_limit_is_lower_than_measure_name_limit() {
        let name = "n".repeat(61);
        assert!(check_dimension_name(&name).is_err());
        assert!(check_measure_name(&name).is_ok());
        assert!(check_measure_name(&"n".repeat(257)).is_err());
    }

    #[test]
    fn database_name_needs_three_valid_characters() {
        for name in ["iot-meter", "a.b", "A_1", &"d".repeat(256)] {
            assert_eq!(check_resource_name("DatabaseName", name), Ok(()));
        }
        for name in ["", "ab", "a b c", "iot/meter", "größe", "x\"; drop", &"d".repeat(257)] {
            assert!(check_resource_name("DatabaseName", name).is_err(), "{name}");
        }
    }
}
