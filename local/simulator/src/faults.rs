//! Simulated network faults, repeatable by their seed.

use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::counters::Counters;
use crate::message::Message;

/// The probability of each fault, per message.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FaultRates {
    /// The message is lost, which leaves a gap in `seq`.
    pub loss: f64,
    /// The message is sent twice, with the same bytes.
    pub duplication: f64,
    /// The message is sent after up to [`MAX_REORDER_DISTANCE`] later ones.
    pub reordering: f64,
}

/// The maximum number of later messages that are sent before a delayed one.
pub const MAX_REORDER_DISTANCE: usize = 3;

/// Applies faults to the messages between a device and its send buffer.
#[derive(Debug)]
pub struct FaultInjector {
    rates: FaultRates,
    rng: Xoshiro256PlusPlus,
    held: Vec<HeldMessage>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct HeldMessage {
    message: Message,
    /// The number of messages that are still sent before this one.
    remaining_overtakes: usize,
}

impl FaultInjector {
    /// An injector; the same seed produces the same faults.
    pub fn new(rates: FaultRates, seed: u64, counters: Arc<Counters>) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { rates, rng, held: Vec::new(), counters }
    }

    /// Returns the messages to send instead of this one: none, one or two copies, and delayed
    /// earlier ones.
    pub fn apply(&mut self, message: Message) -> Vec<Message> {
        if self.should_inject(self.rates.loss) {
            self.counters.dropped.add(1);
            return Vec::new();
        }
        let mut copies = vec![message];
        if self.should_inject(self.rates.duplication) {
            self.counters.duplicated.add(1);
            copies.extend_from_within(..);
        }
        let mut leaving = Vec::with_capacity(copies.len());
        for message in copies {
            // With the maximum number of delayed messages, this one is sent, so that they are
            // overtaken.
            if self.held.len() < MAX_REORDER_DISTANCE && self.should_inject(self.rates.reordering) {
                let remaining_overtakes = self.rng.random_range(1..=MAX_REORDER_DISTANCE);
                self.held.push(HeldMessage { message, remaining_overtakes });
            } else {
                leaving.push(message);
                leaving.extend(self.take_overtaken());
            }
        }
        leaving
    }

    /// Releases all delayed messages, oldest first, at the end of the simulation.
    pub fn release(&mut self) -> Vec<Message> {
        self.held.drain(..).map(|held| held.message).collect()
    }

    /// Counts one sent message, and returns the delayed messages that are due.
    fn take_overtaken(&mut self) -> Vec<Message> {
        let (due, waiting): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|held| held.remaining_overtakes == 1);
        self.held = waiting;
        for held in &mut self.held {
            held.remaining_overtakes -= 1;
        }
        self.counters.reordered.add(due.len() as u64);
        due.into_iter().map(|held| held.message).collect()
    }

    fn should_inject(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::message::Kind;

    fn send(rates: FaultRates, seed: u64, count: u32) -> (Vec<u32>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let mut faults = FaultInjector::new(rates, seed, Arc::clone(&counters));
        let mut out = Vec::new();
        for n in 0..count {
            let payload = Bytes::from(n.to_string());
            out.extend(faults.apply(Message { kind: Kind::Telemetry, payload }));
        }
        out.extend(faults.release());
        let numbers =
            out.iter().map(|m| std::str::from_utf8(&m.payload).unwrap().parse().unwrap()).collect();
        (numbers, counters)
    }

    #[test]
    fn messages_pass_unchanged_without_faults() {
        let (out, _) = send(FaultRates::default(), 1, 100);
        assert_eq!(out, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn probability_of_one_affects_every_message() {
        let (out, counters) = send(FaultRates { loss: 1.0, ..Default::default() }, 1, 50);
        assert!(out.is_empty());
        assert_eq!(counters.dropped.get(), 50);
        let (out, counters) = send(FaultRates { duplication: 1.0, ..Default::default() }, 1, 50);
        assert_eq!(out.len(), 100);
        assert_eq!(counters.duplicated.get(), 50);
    }

    #[test]
    fn reordering_sends_later_message_first() {
        let (out, counters) = send(FaultRates { reordering: 0.3, ..Default::default() }, 1, 100);
        assert!(!out.is_sorted());
        assert!(counters.reordered.get() > 0);
    }

    #[test]
    fn messages_pass_with_reordering_probability_of_one() {
        let counters = Arc::new(Counters::default());
        let rates = FaultRates { reordering: 1.0, ..Default::default() };
        let mut faults = FaultInjector::new(rates, 1, counters);
        let message = Message { kind: Kind::Telemetry, payload: Bytes::new() };
        let passed: usize = (0..100).map(|_| faults.apply(message.clone()).len()).sum();
        assert!(passed >= 100 - MAX_REORDER_DISTANCE, "{passed} of 100");
    }

    proptest! {
        #[test]
        fn each_message_is_sent_once_unless_dropped_or_duplicated(
            loss in 0.0..=1.0_f64,
            duplication in 0.0..=1.0_f64,
            reordering in 0.0..=1.0_f64,
            seed: u64,
        ) {
            let rates = FaultRates { loss, duplication, reordering };
            let (out, counters) = send(rates, seed, 200);
            let mut times = BTreeMap::new();
            for n in &out {
                *times.entry(*n).or_insert(0_u64) += 1;
            }
            prop_assert!(times.values().all(|t| (1..=2).contains(t)));
            prop_assert_eq!(times.len() as u64, 200 - counters.dropped.get());
            prop_assert_eq!(
                times.values().filter(|t| **t == 2).count() as u64,
                counters.duplicated.get()
            );
        }

        #[test]
        fn same_seed_produces_same_faults(seed: u64) {
            let rates = FaultRates { loss: 0.2, duplication: 0.2, reordering: 0.2 };
            prop_assert_eq!(send(rates, seed, 200).0, send(rates, seed, 200).0);
        }
    }
}
