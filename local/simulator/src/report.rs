//! The console output of a running fleet, and its summary.

use std::fmt::Write as _;
use std::time::Duration;

use crate::counters::Counters;

/// Progress lines, with a heading at intervals.
#[derive(Debug)]
pub struct ProgressReport {
    devices: usize,
    lines: usize,
    last_at: Duration,
    last_sent: u64,
}

/// Lines between headings, about a screen.
const HEADING_INTERVAL: usize = 20;

impl ProgressReport {
    /// A report for a fleet of `devices` devices.
    pub fn new(devices: usize) -> Self {
        Self { devices, lines: 0, last_at: Duration::ZERO, last_sent: 0 }
    }

    /// The next line, `elapsed` after the start.
    pub fn line(&mut self, elapsed: Duration, counters: &Counters) -> String {
        let mut text = String::new();
        if self.lines.is_multiple_of(HEADING_INTERVAL) {
            let _ = writeln!(
                text,
                "{:>8}  {:>13}  {:>10}  {:>12}  {:>10}  {:>8}  {:>8}",
                "time", "connected", "sent", "rate", "acked", "waiting", "commands"
            );
        }
        self.lines += 1;
        let sent = counters.sent.get();
        let seconds = elapsed.saturating_sub(self.last_at).as_secs_f64();
        let rate = if seconds > 0.0 { (sent - self.last_sent) as f64 / seconds } else { 0.0 };
        (self.last_at, self.last_sent) = (elapsed, sent);
        let connected = format!("{}/{}", counters.connected.get(), self.devices);
        let commands = counters.commands_accepted.get() + counters.commands_rejected.get();
        let _ = write!(
            text,
            "{:>8}  {connected:>13}  {sent:>10}  {rate:>9.1} /s  {:>10}  {:>8}  {commands:>8}",
            format_elapsed(elapsed),
            counters.acknowledged.get(),
            counters.unacknowledged(),
        );
        text
    }
}

/// The totals of a run.
pub fn summary(
    devices: usize,
    seed: u64,
    elapsed: Duration,
    counters: &Counters,
    undelivered: usize,
) -> String {
    let rows = [
        ("messages created", counters.created.get(), "status and last wills not counted"),
        ("dropped on purpose", counters.dropped.get(), "--loss"),
        ("duplicated", counters.duplicated.get(), "--duplication"),
        ("reordered", counters.reordered.get(), "--reordering"),
        ("sent", counters.sent.get(), "published for the first time"),
        ("resent", counters.resent.get(), "the connection was lost before the acknowledgement"),
        ("acknowledged", counters.acknowledged.get(), "by the broker"),
        ("overflowed", counters.overflowed.get(), "removed from a full send buffer"),
        ("not delivered", undelivered as u64, "still in the send buffers"),
        ("commands accepted", counters.commands_accepted.get(), ""),
        ("commands rejected", counters.commands_rejected.get(), "or unsupported"),
        ("commands repeated", counters.commands_repeated.get(), "acknowledged again, not executed"),
        ("commands ignored", counters.commands_ignored.get(), "expired or invalid"),
        ("restarts", counters.restarts.get(), ""),
        ("connections lost", counters.connections_lost.get(), ""),
    ];
    let plural = if devices == 1 { "" } else { "s" };
    let mut text = format!(
        "Simulated {devices} device{plural} for {} with --seed {seed}\n",
        format_elapsed(elapsed)
    );
    for (name, number, note) in rows {
        let line = format!("  {name:<20}{number:>10}   {note}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn format_elapsed(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_for_all_numbers() {
        let counters = Counters::default();
        let mut progress = ProgressReport::new(10_000);
        let text = progress.line(Duration::from_secs(5), &counters);
        let (heading, first) = text.split_once('\n').unwrap();
        assert_eq!(heading.len(), first.len());
        counters.connected.add(10_000);
        counters.sent.add(123_456_789);
        counters.queued.add(123_456_789);
        counters.acknowledged.add(123_450_000);
        let second = progress.line(Duration::from_secs(3_600), &counters);
        assert_eq!(second.len(), first.len());
    }

    #[test]
    fn rate_refers_to_time_since_last_line() {
        let counters = Counters::default();
        let mut progress = ProgressReport::new(1);
        counters.sent.add(100);
        progress.line(Duration::from_secs(10), &counters);
        counters.sent.add(50);
        let line = progress.line(Duration::from_secs(15), &counters);
        assert!(line.contains("10.0 /s"), "{line}");
    }

    #[test]
    fn summary_contains_dropped_and_undelivered_messages() {
        let counters = Counters::default();
        counters.dropped.add(7);
        let text = summary(3, 42, Duration::from_secs(61), &counters, 2);
        assert!(text.contains("3 devices for 00:01:01 with --seed 42"));
        assert!(text.lines().any(|l| l.contains("dropped on purpose") && l.contains(" 7 ")));
        assert!(text.lines().any(|l| l.contains("not delivered") && l.contains(" 2 ")));
    }
}
