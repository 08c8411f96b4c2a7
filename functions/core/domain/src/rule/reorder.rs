//! The samples of one metric of one device, in the order of device time.
//!
//! Messages arrive late, repeatedly and in any order, but rules judge samples in the order of
//! device time. A [`ReorderBuffer`] stores the frontier (the last sample that was judged) and holds
//! newer samples back for a configured time, within which earlier ones may arrive.

use serde::{Deserialize, Serialize};

use crate::metric::{Point, Precedence};
use crate::time::Timestamp;

/// Maximum number of samples that are held back. Beyond it the oldest are released early: the
/// buffer is part of the device state, which is read and written with each batch.
const MAX_BUFFERED: usize = 64;

/// A sample that is held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BufferedSample {
    /// Device time of the sample.
    pub at: Timestamp,
    /// See [`PointKey::sample_index`](crate::metric::PointKey::sample_index).
    pub sample_index: u16,
    /// The value; finite.
    pub value: f64,
    /// Of two samples with the same time and index, the one with the greater precedence is kept.
    pub precedence: Precedence,
}

impl BufferedSample {
    fn key(&self) -> (Timestamp, u16) {
        (self.at, self.sample_index)
    }
}

/// A sample that is released in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OrderedSample {
    /// Device time of the sample.
    pub at: Timestamp,
    /// The value; finite.
    pub value: f64,
    /// Change per second since the last sample with an earlier time; `None` for the first sample.
    pub rate: Option<f64>,
}

/// Frontier and held samples of one metric of a device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReorderBuffer {
    /// The frontier: time, index and value of the last released sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<(Timestamp, u16, f64)>,
    /// Time and value of the last sample that was released with a time before the frontier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<(Timestamp, f64)>,
    /// Samples beyond the frontier that wait for earlier ones, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<BufferedSample>,
    /// Receipt time of the latest sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
}

impl ReorderBuffer {
    /// An empty buffer whose frontier is an existing point, with the receipt time of that point.
    pub fn starting_after(newest: Option<&Point>, received_at: Option<Timestamp>) -> Self {
        let last = newest.map(|point| (point.key.time, point.key.sample_index, point.value));
        Self { last, received_at, ..Self::default() }
    }

    /// Device time of the frontier.
    pub fn frontier(&self) -> Option<Timestamp> {
        self.last.map(|(at, ..)| at)
    }

    /// Adds samples in any order. Returns the samples that are due, in order, and the number of
    /// late samples, repeats included. A sample is due when the newest one is at least `reorder_s`
    /// seconds newer.
    pub fn admit(
        &mut self,
        samples: impl IntoIterator<Item = BufferedSample>,
        reorder_s: u32,
    ) -> (Vec<OrderedSample>, u64) {
        let frontier = self.last.map(|(at, sample_index, _)| (at, sample_index));
        let mut late = 0;
        for sample in samples {
            if frontier.is_some_and(|frontier| sample.key() <= frontier) {
                late += 1;
                continue;
            }
            match self.held.binary_search_by_key(&sample.key(), BufferedSample::key) {
                Err(place) => self.held.insert(place, sample),
                Ok(place) if self.held[place].precedence < sample.precedence => {
                    self.held[place] = sample
                }
                Ok(_) => {}
            }
        }
        let newest = self.held.last().map(|sample| sample.at);
        let until = newest.map(|newest| newest.plus_seconds(-i64::from(reorder_s)));
        let due = self.held.partition_point(|sample| Some(sample.at) <= until);
        let excess = self.held.len().saturating_sub(MAX_BUFFERED);
        (self.release(due.max(excess)), late)
    }

    /// Releases all samples that are held back.
    pub fn flush(&mut self) -> Vec<OrderedSample> {
        self.release(self.held.len())
    }

    /// Whether samples are held back.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    fn release(&mut self, count: usize) -> Vec<OrderedSample> {
        let mut released = Vec::with_capacity(count);
        for BufferedSample { at, sample_index, value, .. } in self.held.drain(..count) {
            if let Some((last, _, value)) = self.last
                && last < at
            {
                self.previous = Some((last, value));
            }
            self.last = Some((at, sample_index, value));
            let rate = self.previous.map(|(before, from)| {
                let seconds = (at.as_nanos() - before.as_nanos()) as f64 / 1e9;
                (value - from) / seconds
            });
            released.push(OrderedSample { at, value, rate: rate.filter(|rate| rate.is_finite()) });
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::MessageId;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000).unwrap()
    }

    fn sample(second: i64, value: f64) -> BufferedSample {
        let precedence =
            Precedence { ts: at(second), message_id: MessageId::of("t", &value.to_be_bytes()) };
        BufferedSample { at: at(second), sample_index: 0, value, precedence }
    }

    fn values(released: &[OrderedSample]) -> Vec<f64> {
        released.iter().map(|sample| sample.value).collect()
    }

    #[test]
    fn samples_are_released_in_order_and_late_ones_are_counted() {
        let mut buffer = ReorderBuffer::default();
        let (read, late) = buffer.admit([sample(3, 3.0), sample(1, 1.0), sample(2, 2.0)], 0);
        assert_eq!((values(&read), late), (vec![1.0, 2.0, 3.0], 0));
        let (read, late) = buffer.admit([sample(3, 3.0), sample(2, 9.0), sample(4, 4.0)], 0);
        assert_eq!((values(&read), late), (vec![4.0], 2));
    }

    #[test]
    fn of_two_samples_at_one_time_the_greater_precedence_is_released() {
        let other = BufferedSample {
            precedence: Precedence { ts: at(9), ..sample(1, 7.0).precedence },
            ..sample(1, 7.0)
        };
        for pair in [[sample(1, 5.0), other.clone()], [other, sample(1, 5.0)]] {
            assert_eq!(values(&ReorderBuffer::default().admit(pair, 0).0), [7.0]);
        }
    }

    #[test]
    fn rate_is_relative_to_the_last_sample_with_an_earlier_time() {
        let mut buffer = ReorderBuffer::default();
        let second = |s, sample_index, value| BufferedSample { sample_index, ..sample(s, value) };
        let samples =
            [second(0, 0, 10.0), second(2, 0, 14.0), second(2, 1, 20.0), second(3, 0, 19.0)];
        let rates: Vec<_> = buffer.admit(samples, 0).0.iter().map(|sample| sample.rate).collect();
        assert_eq!(rates, [None, Some(2.0), Some(5.0), Some(-1.0)]);
    }

    #[test]
    fn samples_before_the_initial_point_are_late() {
        let newest = Point {
            key: crate::metric::PointKey {
                time: at(5),
                metric: crate::metric::MetricName::parse("x").unwrap(),
                sample_index: 0,
            },
            value: 1.0,
            unit: None,
            precedence: sample(5, 1.0).precedence,
        };
        let (read, late) = ReorderBuffer::starting_after(Some(&newest), None)
            .admit([sample(4, 9.0), sample(7, 5.0)], 0);
        assert_eq!((read[0].rate, late), (Some(2.0), 1));
    }

    proptest! {
        /// Samples that arrive at most the allowance after a newer one are released in order and
        /// once, in any shuffle and with any repeats.
        #[test]
        fn disorder_within_the_window_is_restored(
            count in 1_i64..50, reorder in 0_i64..10, jumps in prop::collection::vec(0_i64..10, 50),
            repeats in prop::collection::vec(any::<bool>(), 50), sizes in prop::collection::vec(1_usize..9, 1..9),
        ) {
            // Each sample is delayed by less than the allowance, which bounds the disorder.
            let mut order: Vec<_> = (0..count).map(|s| (s + jumps[s as usize] % (reorder + 1), s)).collect();
            order.sort_unstable();
            let mut arrivals: Vec<_> = order.into_iter().map(|(_, s)| sample(s, s as f64)).collect();
            for i in 0..arrivals.len() {
                if repeats[i] { arrivals.push(arrivals[i].clone()); }
            }
            let mut buffer = ReorderBuffer::default();
            let mut read = Vec::new();
            let (mut rest, mut sizes) = (arrivals.as_slice(), sizes.into_iter().cycle());
            while !rest.is_empty() {
                let (batch, more) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                read.extend(buffer.admit(batch.to_vec(), reorder as u32).0);
                rest = more;
            }
            read.extend(buffer.flush());
            prop_assert_eq!(values(&read), (0..count).map(|s| s as f64).collect::<Vec<_>>());
            prop_assert!(!buffer.is_waiting());
        }
    }
}
