//! Sessions and sequence numbers (docs/adr/0008).
//!
//! This serves counters and the gap alert and nothing else: the outcome on a number **never** decides
//! whether a message is kept. Clocks reset, devices reboot to 0, backlogs arrive after live data, and
//! whoever trusts a sequence number loses what a rebooted device says.

mod ranges;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::ranges::{Gap, SeenRanges};
use crate::time::Timestamp;

/// Power-ons that are remembered.
const MAX_SESSIONS: usize = 4;

/// How far behind the highest number one may come late. More is a restart, when the device does not
/// say which power-on it speaks from.
const MAX_LATE_DISTANCE: i64 = 1_024;

/// The last power-ons of a device, and what its numbers amounted to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Oldest first; the last one is the current one.
    sessions: Vec<Session>,
    /// Numbers seen again in their session.
    pub repeats: u64,
    /// Numbers that came after a higher one.
    pub late: u64,
    /// Sessions after the first.
    pub restarts: u64,
    /// Gaps that were forgotten because there were too many, or too many sessions since.
    #[serde(default)]
    pub abandoned_gaps: u64,
}

/// One power-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// What the device calls it, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// The least and the greatest device time in it.
    first_ts: Timestamp,
    last_ts: Timestamp,
    /// The numbers seen, unwrapped: where a device's counter wraps, these go on.
    seen: SeenRanges,
}

/// An inclusive range of the device's own numbers; across the wrap its end is below its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingRange {
    /// The first number that is missing.
    pub start: u32,
    /// The last one.
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

/// What a number amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceOutcome {
    /// The first of a session; not the first session: a restart.
    NewSession {
        /// Whether another session came before.
        restart: bool,
    },
    /// Higher than all before in its session.
    Advanced,
    /// Below the highest and not seen: it closes a gap, or a part of one.
    Late,
    /// Seen before in its session.
    Duplicate,
}

impl Sequence {
    /// Notes a number received at `at`. `boot` is what the device calls its power-on, `ts` its own clock.
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

    /// The numbers missing behind the highest of each remembered session.
    pub fn missing_ranges(&self) -> Vec<MissingRange> {
        self.gaps().map(MissingRange::from).collect()
    }

    /// Those that have been missing for `grace_s` seconds at `now`.
    pub fn overdue(&self, now: Timestamp, grace_s: u32) -> Vec<MissingRange> {
        let latest = now.as_seconds() - i64::from(grace_s);
        self.gaps().filter(|gap| gap.since <= latest).map(MissingRange::from).collect()
    }

    /// When the oldest gap is, or was, overdue.
    pub fn first_overdue(&self, grace_s: u32) -> Option<Timestamp> {
        let oldest = self.gaps().map(|gap| gap.since).min()?;
        Timestamp::from_millis((oldest + i64::from(grace_s)) * 1_000).ok()
    }

    /// When the oldest gap that was not overdue at `now` will be.
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

    /// Without a name for the power-on the numbers and the device's clock have to tell. None: a new one.
    fn session_without_boot(&self, seq: u32, ts: Timestamp) -> Option<usize> {
        let unnamed = |s: &Session| s.boot.is_none();
        let current = self.sessions.iter().rposition(unnamed)?;
        let session = &self.sessions[current];
        let number = session.unwrap_seq(seq);
        let ahead = number - session.seen.highest();

        // A straggler of the power-on before: made before this one began, or far from this one's numbers
        // and close to the other's.
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

    /// The number nearest to the highest that wraps to `seq` (RFC 1982, serial number arithmetic).
    fn unwrap_seq(&self, seq: u32) -> i64 {
        let highest = self.seen.highest();
        let distance = seq.wrapping_sub(wrap_seq(highest)).cast_signed();
        highest + i64::from(distance)
    }
}

/// The device's own number of an unwrapped one.
fn wrap_seq(number: i64) -> u32 {
    // The remainder is below 2^32.
    u32::try_from(number.rem_euclid(1 << 32)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
