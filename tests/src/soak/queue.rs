//! A queue with the worst behaviour that SQS permits: any order and batch size, redelivery of
//! processed messages, and redelivery during processing.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::fault_schedule::FaultSchedule;
use super::scenario::{LATE_PHASE, MessageContent, Rng, Scenario, chance};

/// The messages that are waiting, in flight and processed.
pub(super) struct Queue<'a> {
    scenario: &'a Scenario,
    /// Indices of the receipts to deliver; a receipt may occur several times.
    waiting: Vec<usize>,
    in_flight: usize,
    done: Vec<bool>,
    rng: Rng,
    batch_size: RangeInclusive<usize>,
    redelivery_probability: f64,
    overlap_probability: f64,
    /// Whether late messages are delivered.
    late_messages_released: bool,
    pub(super) counts: DeliveryCounts,
}

/// Counts of deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DeliveryCounts {
    pub(super) batches: usize,
    /// Messages in all batches.
    pub(super) deliveries: usize,
    /// Messages that were delivered again after a reported failure or without a response.
    pub(super) retried: usize,
    /// Messages that were delivered again without a failure.
    pub(super) redelivered: usize,
}

impl<'a> Queue<'a> {
    pub(super) fn new(scenario: &'a Scenario, fault_schedule: &FaultSchedule, rng: Rng) -> Self {
        Self {
            scenario,
            waiting: (0..scenario.receipts.len()).collect(),
            in_flight: 0,
            done: vec![false; scenario.receipts.len()],
            rng,
            batch_size: fault_schedule.batch_size.clone(),
            redelivery_probability: fault_schedule.redelivery_probability,
            overlap_probability: fault_schedule.overlap_probability,
            late_messages_released: false,
            counts: DeliveryCounts::default(),
        }
    }

    /// Whether all released messages are processed.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight == 0 && !self.waiting.iter().any(|receipt| self.is_released(*receipt))
    }

    fn is_released(&self, receipt: usize) -> bool {
        self.late_messages_released || self.scenario.receipts[receipt].phase != LATE_PHASE
    }

    /// Takes a batch of messages that are ready. The batch is empty if all of them wait for
    /// messages in flight.
    pub(super) fn receive(&mut self) -> Vec<usize> {
        let size = self.rng.random_range(self.batch_size.clone());
        let mut batch = Vec::new();
        let mut in_batch = HashSet::new();
        let mut ready: Vec<usize> =
            (0..self.waiting.len()).filter(|i| self.is_ready(self.waiting[*i])).collect();
        let mut taken = Vec::new();
        while batch.len() < size && !ready.is_empty() {
            let place = ready.swap_remove(self.rng.random_range(0..ready.len()));
            // A batch contains a message once.
            if in_batch.insert(self.waiting[place]) {
                batch.push(self.waiting[place]);
                taken.push(place);
            }
        }
        taken.sort_unstable_by(|a, b| b.cmp(a));
        for place in taken {
            self.waiting.swap_remove(place);
        }
        if batch.is_empty() {
            return batch;
        }
        self.in_flight += 1;
        self.counts.batches += 1;
        self.counts.deliveries += batch.len();
        for receipt in &batch {
            // The visibility timeout ends before the processing does.
            if chance(&mut self.rng, self.overlap_probability) {
                self.waiting.push(*receipt);
                self.counts.redelivered += 1;
            }
        }
        batch
    }

    /// Whether all messages of the device with an earlier phase are processed.
    fn is_ready(&self, receipt: usize) -> bool {
        let phase = self.scenario.receipts[receipt].phase;
        if !self.is_released(receipt) {
            return false;
        }
        if phase == 0 {
            return true;
        }
        let device =
            |receipt: usize| self.scenario.messages[self.scenario.receipts[receipt].message].device;
        let of = device(receipt);
        let mut others = self.scenario.receipts.iter().enumerate();
        !others.any(|(other, r)| r.phase < phase && !self.done[other] && device(other) == of)
    }

    /// Ends a batch; its failed messages are delivered again.
    pub(super) fn complete_batch(&mut self, batch: &[usize], failed: &HashSet<usize>) {
        self.in_flight -= 1;
        for receipt in batch {
            if failed.contains(receipt) {
                self.waiting.push(*receipt);
                self.counts.retried += 1;
                continue;
            }
            self.done[*receipt] = true;
            if chance(&mut self.rng, self.redelivery_probability) {
                self.waiting.push(*receipt);
                self.counts.redelivered += 1;
            }
        }
    }

    /// From now on only failed messages are delivered again.
    pub(super) fn stop_redelivery(&mut self) {
        self.redelivery_probability = 0.0;
        self.overlap_probability = 0.0;
    }

    /// From now on late messages are delivered.
    pub(super) fn release_late_messages(&mut self) {
        self.late_messages_released = true;
    }

    /// Delivers one message of each device again.
    pub(super) fn redeliver_one_per_device(&mut self) {
        let mut devices = HashSet::new();
        for (place, receipt) in self.scenario.receipts.iter().enumerate() {
            let device = self.scenario.messages[receipt.message].device;
            if receipt.phase != LATE_PHASE && devices.insert(device) {
                self.waiting.push(place);
                self.counts.redelivered += 1;
            }
        }
    }

    /// Delivers each released message again with probability `share`.
    pub(super) fn redeliver_share(&mut self, share: f64) {
        for receipt in 0..self.scenario.receipts.len() {
            if self.is_released(receipt) && chance(&mut self.rng, share) {
                self.waiting.push(receipt);
                self.counts.redelivered += 1;
            }
        }
    }
}

/// The event that the event source mapping of Lambda sends for a batch.
pub(super) fn event(scenario: &Scenario, batch: &[usize]) -> Value {
    let records = batch.iter().map(|receipt| {
        let entry = &scenario.receipts[*receipt];
        let message = &scenario.messages[entry.message];
        let at = entry.at.as_millisecond();
        let body = match message.content {
            MessageContent::InvalidEnvelope => {
                String::from_utf8_lossy(&message.payload).into_owned()
            }
            _ => json!({
                "payload": BASE64.encode(&message.payload),
                "topic": message.topic,
                "received_at": at,
                "principal": "soak",
            })
            .to_string(),
        };
        json!({
            "messageId": receipt.to_string(),
            "receiptHandle": "r",
            "body": body,
            "attributes": {"SentTimestamp": at.to_string(), "ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:ingest",
            "awsRegion": "us-east-1",
        })
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

/// The failed messages of a batch in a response, or `None` if the response is invalid.
pub(super) fn failed(answer: &Value, batch: &[usize]) -> Option<HashSet<usize>> {
    let failures = answer.get("batchItemFailures")?.as_array()?;
    let ids = failures.iter().map(|failure| failure["itemIdentifier"].as_str()?.parse().ok());
    let ids: HashSet<usize> = ids.collect::<Option<_>>()?;
    ids.iter().all(|id| batch.contains(id)).then_some(ids)
}
