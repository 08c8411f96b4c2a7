//! Boot sessions and sequence numbers of a device (docs/adr/0008).
//!
//! Only counters and the gap alert use the result. It **never** decides whether a message is
//! stored: clocks reset, devices restart at 0, and backlogs arrive after live data, so a sequence
//! number is not evidence that a message is old.
//!
//! Invariants: at most [`MAX_SESSIONS`] sessions with 64 ranges each, and every recorded number is
//! counted as exactly one [`SequenceOutcome`].

mod ranges;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::ranges::{Gap, SeenRanges};
use crate::time::Timestamp;

/// Maximum number of boot sessions that are kept.
const MAX_SESSIONS: usize = 4;

/// Maximum distance of a late number to the highest one. If the device does not name its boot
/// session, a number further behind starts a new session.
const MAX_LATE_DISTANCE: i64 = 1_024;

/// The last boot sessions of a device and counters over all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Oldest first; the last one is the current session.
    sessions: Vec<Session>,
    /// Numbers that were already seen in their session.
    pub repeats: u64,
    /// Numbers that arrived after a higher one.
    pub late: u64,
    /// Sessions after the first.
    pub restarts: u64,
    /// Gaps that are no longer tracked, because there were too many gaps or too many later
    /// sessions.
    #[serde(default)]
    pub abandoned_gaps: u64,
}

/// One boot session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// Name of the session as sent by the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// Least and greatest device time in the session.
    first_ts: Timestamp,
    last_ts: Timestamp,
    /// The numbers seen, unwrapped: they continue beyond 2^32 where the counter of the device
    /// wraps.
    seen: SeenRanges,
}

/// An inclusive range of missing numbers, as the device counts them. Across the wrap, the end is
/// below the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingRange {
    /// First missing number.
    pub start: u32,
    /// Last missing number.
    pub end: u32,
}

impl From<Gap> for MissingRange {
    fn from(gap: Gap) -> Self {
        Self { start: wrap_seq(gap.start), end: wrap_seq(gap.end) }
    }
}

impl fmt::Display for MissingRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{} to {}", self.start, self.end)
        }
    }
}

/// The effect of a number on its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceOutcome {
    /// The number starts a session.
    NewSession {
        /// Whether an earlier session exists.
        restart: bool,
    },
    /// The number is higher than all before in its session.
    Advanced,
    /// The number is below the highest and new: it fills a gap or a part of one.
    Late,
    /// The number was already seen in its session.
    Duplicate,
}

impl Sequence {
    /// Records a number that was received at `at`. `boot` is the session name that the device sent,
    /// `ts` the envelope time.
    pub fn record(
        &mut self,
        seq: u32,
        boot: Option<&str>,
        ts: Timestamp,
        at: Timestamp,
    ) -> SequenceOutcome {
        let at = at.as_seconds();
        let session = match boot {
            Some(boot) => self.sessions.iter().rposition(|s| s.boot.as_deref() == Some(boot)),
            None => self.session_without_boot(seq, ts),
        };
        let outcome = match session {
            Some(index) => {
                let session = &mut self.sessions[index];
                let outcome = session.record(seq, ts, at);
                self.abandoned_gaps += u64::from(session.seen.drop_lowest_gap_over_limit());
                outcome
            }
            None => {
                let restart = !self.sessions.is_empty();
                self.start_session(seq, boot, ts, at);
                SequenceOutcome::NewSession { restart }
            }
        };
        match outcome {
            SequenceOutcome::NewSession { restart } => self.restarts += u64::from(restart),
            SequenceOutcome::Late => self.late += 1,
            SequenceOutcome::Duplicate => self.repeats += 1,
            SequenceOutcome::Advanced => {}
        }
        outcome
    }

    /// The gaps of all sessions that are kept.
    pub fn missing_ranges(&self) -> Vec<MissingRange> {
        self.gaps().map(MissingRange::from).collect()
    }

    /// The gaps that have been open for `grace_s` seconds at `now`.
    pub fn overdue(&self, now: Timestamp, grace_s: u32) -> Vec<MissingRange> {
        let latest = now.as_seconds() - i64::from(grace_s);
        self.gaps().filter(|gap| gap.since <= latest).map(MissingRange::from).collect()
    }

    /// Time at which the oldest gap is, or was, overdue.
    pub fn first_overdue(&self, grace_s: u32) -> Option<Timestamp> {
        let oldest = self.gaps().map(|gap| gap.since).min()?;
        Timestamp::from_millis((oldest + i64::from(grace_s)) * 1_000).ok()
    }

    /// Time at which the oldest gap that is not overdue at `now` becomes overdue.
    pub fn next_overdue(&self, now: Timestamp, grace_s: u32) -> Option<Timestamp> {
        let latest = now.as_seconds() - i64::from(grace_s);
        let oldest = self.gaps().map(|gap| gap.since).filter(|since| *since > latest).min()?;
        Timestamp::from_millis((oldest + i64::from(grace_s)) * 1_000).ok()
    }

    fn gaps(&self) -> impl Iterator<Item = Gap> {
        self.sessions.iter().flat_map(|session| session.seen.gaps())
    }

    fn start_session(&mut self, seq: u32, boot: Option<&str>, ts: Timestamp, at: i64) {
        if self.sessions.len() == MAX_SESSIONS {
            let oldest = self.sessions.remove(0);
            self.abandoned_gaps += oldest.seen.gaps().count() as u64;
        }
        self.sessions.push(Session {
            boot: boot.map(str::to_owned),
            first_ts: ts,
            last_ts: ts,
            seen: SeenRanges::of(i64::from(seq), at),
        });
    }

    /// Index of the session of a message without a session name, inferred from number and envelope
    /// time. `None`: a new session.
    fn session_without_boot(&self, seq: u32, ts: Timestamp) -> Option<usize> {
        let unnamed = |s: &Session| s.boot.is_none();
        let current = self.sessions.iter().rposition(unnamed)?;
        let session = &self.sessions[current];
        let number = session.unwrap_seq(seq);
        let ahead = number - session.seen.highest();

        // A late message of the previous session: sent before the current session began, or far
        // from its numbers and close to those of the previous one.
        if ts < session.first_ts || ahead.abs() > MAX_LATE_DISTANCE {
            let previous = self.sessions[..current].iter().rposition(|s| {
                let distance = s.unwrap_seq(seq) - s.seen.highest();
                unnamed(s)
                    && distance.abs() <= MAX_LATE_DISTANCE
                    && (ts <= s.last_ts || distance > 0)
            });
            if previous.is_some() {
                return previous;
            }
        }
        let counted_again = session.seen.contains(number) && ts > session.last_ts;
        if counted_again || ahead < -MAX_LATE_DISTANCE { None } else { Some(current) }
    }
}

impl Session {
    fn record(&mut self, seq: u32, ts: Timestamp, at: i64) -> SequenceOutcome {
        let number = self.unwrap_seq(seq);
        self.first_ts = self.first_ts.min(ts);
        self.last_ts = self.last_ts.max(ts);
        let highest = self.seen.highest();
        if self.seen.insert(number, at) {
            if number > highest { SequenceOutcome::Advanced } else { SequenceOutcome::Late }
        } else {
            SequenceOutcome::Duplicate
        }
    }

    /// The number closest to the highest that wraps to `seq` (RFC 1982, serial number arithmetic).
    fn unwrap_seq(&self, seq: u32) -> i64 {
        let highest = self.seen.highest();
        let distance = seq.wrapping_sub(wrap_seq(highest)).cast_signed();
        highest + i64::from(distance)
    }
}

/// The number as the device counts it.
fn wrap_seq(number: i64) -> u32 {
    // The remainder is below 2^32.
    u32::try_from(number.rem_euclid(1 << 32)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
