//! Results on standard output, as a table or as JSON, and progress on standard error.

use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::options::OutputFormat;

/// Whether a command did all of its work; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    Full,
    /// Something remains, which the report lists.
    Partial,
}

impl Completion {
    pub(crate) fn full_if(is_full: bool) -> Self {
        if is_full { Self::Full } else { Self::Partial }
    }
}

/// The result of a command.
pub(crate) trait Report: Serialize {
    /// A heading row, then one row an item.
    fn rows(&self) -> Vec<Vec<String>>;
}

pub(crate) fn print(report: &impl Report, output: OutputFormat) -> Result<()> {
    match output {
        OutputFormat::Table => print!("{}", align(&report.rows())),
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(report)?),
    }
    Ok(())
}

/// A spinner with a message; hidden when standard error is not a terminal.
pub(crate) fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::default_spinner())
        .with_message("starting");
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

/// Columns two spaces apart, numbers to the right.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<_> = (0..columns)
        .map(|n| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| match cell.parse::<i64>() {
            Ok(_) => format!("{cell:>width$}"),
            Err(_) => format!("{cell:width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_columns_are_aligned_and_numbers_end_in_line() {
        let rows = [&["SOURCE", "MOVED"][..], &["dead letters", "12"], &["é", "3"], &["note"]]
            .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        let expected = "\
SOURCE        MOVED
dead letters     12
é                 3
note
";
        assert_eq!(align(&rows), expected);
    }
}
