//! Measures the cost of alert rules: ingests batches of 1,000 messages into in-memory stores with
//! 0, 10 and 1,000 rules. Measures processor time, which other processes do not affect.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use meter_domain::alert::Severity;
use meter_domain::archive::Layout;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::message::ReceivedMessage;
use meter_domain::metric::MetricName;
use meter_domain::rule::{Condition, Limits, Operator, Rule, Scope};
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_service::ingestion::{Delivery, Ingestion, IngestionConfig};
use meter_service::optimistic_update;
use meter_service::rule_cache::RuleCache;
use meter_store::{DeviceStore, RuleStore};
use meter_testing::memory::{MemoryStores, Operation};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::json;

const DEVICES: usize = 100;
const MESSAGES: usize = 1_000;
/// Metrics of each message.
const METRICS: usize = 20;
const BATCHES: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    println!(
        "{MESSAGES} messages of {DEVICES} devices a batch, {METRICS} metrics each; {BATCHES} batches, the median\n"
    );
    println!(
        "{:>6}  {:>9}  {:>11}  {:>11}  {:>11}",
        "rules", "ms/batch", "rule reads", "state writes", "alerts"
    );
    let mut first = None;
    for rules in [0, 10, 1_000] {
        let run = measure(rules).await.with_context(|| format!("with {rules} rules"))?;
        let ms = run.median.as_secs_f64() * 1e3;
        let first = *first.get_or_insert(ms);
        println!(
            "{rules:>6}  {ms:>9.1}  {:>11}  {:>11}  {:>11}  {:+.1} %",
            run.rule_reads,
            run.state_writes,
            run.alerts,
            (ms / first - 1.0) * 100.0
        );
    }
    Ok(())
}

struct Run {
    median: Duration,
    rule_reads: usize,
    state_writes: usize,
    alerts: usize,
}

async fn measure(rules: usize) -> Result<Run> {
    let memory = MemoryStores::new();
    let begin = Timestamp::parse("2026-03-01T12:00:00Z")?;
    for device in 0..DEVICES {
        register(&memory, device, begin).await?;
    }
    for n in 0..rules {
        RuleStore::create(&memory, &rule(n, begin)?).await?;
    }
    let config = IngestionConfig {
        layout: Layout::Batch,
        policy: DevicePolicy::default(),
        ttl_days: None,
        require_registration: false,
    };
    let ingestion = Ingestion::new(memory.clone(), RuleCache::new(60), config);
    let mut times = Vec::new();
    for batch in 0..BATCHES {
        let now = begin.plus_seconds(10 * (batch as i64 + 1));
        let deliveries: Vec<_> = (0..MESSAGES).map(|n| delivery(batch, n, now)).collect();
        let started = processor_time()?;
        let outcome = ingestion.ingest(&deliveries, now).await;
        times.push(processor_time()?.saturating_sub(started));
        ensure!(outcome.failed.is_empty(), "{} messages failed", outcome.failed.len());
    }
    times.sort_unstable();
    Ok(Run {
        median: times[BATCHES / 2],
        rule_reads: memory.calls(Operation::ReadRules),
        state_writes: memory.calls(Operation::SaveStates),
        alerts: memory.calls(Operation::OpenAlert),
    })
}

/// The processor time of this process.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

fn id(device: usize) -> Result<DeviceId> {
    DeviceId::parse(&format!("meter-{device}")).context("invalid device id")
}

async fn register(memory: &MemoryStores, device: usize, at: Timestamp) -> Result<()> {
    let device = Device {
        id: new_id(at),
        device_id: id(device)?,
        device_name: format!("Meter {device}"),
        device_type: Some("meter".to_owned()),
        location: None,
        status: DeviceStatus::Active,
        metadata: serde_json::Map::new(),
        config: serde_json::Map::new(),
        command_key: None,
        claimable: false,
        claimed_by: None,
        created_at: at,
        updated_at: at,
        revision: 1,
    };
    let mut state = optimistic_update::read_state(memory, &device.device_id).await?;
    state.register(at, &DevicePolicy::default());
    state.device_type.clone_from(&device.device_type);
    Ok(DeviceStore::create(memory, &device, &state).await?)
}

/// A third of the rules applies to all devices, a third to their type, and a third to one device.
/// Of a thousand rules 50 apply to each metric.
fn rule(n: usize, at: Timestamp) -> Result<Rule> {
    Ok(Rule {
        rule_id: new_id(at),
        name: format!("Rule {n}"),
        enabled: true,
        scope: match n % 3 {
            0 => Scope::All,
            1 => Scope::DeviceType("meter".to_owned()),
            _ => Scope::DeviceId(id(n % DEVICES)?),
        },
        metric: MetricName::parse(&format!("metric_{}", n % METRICS))?,
        condition: Condition::Threshold(Limits::threshold(Operator::Greater, 99.0, Some(95.0))?),
        for_s: 30,
        severity: Severity::Warning,
        message: None,
        notify: true,
        created_at: at,
        updated_at: at,
        version: 1,
    })
}

fn delivery(batch: usize, n: usize, received_at: Timestamp) -> Delivery {
    let (device, seq) = (n % DEVICES, batch * MESSAGES / DEVICES + n / DEVICES);
    let name = format!("meter-{device}");
    let ts = received_at.plus_seconds(-10 + (n / DEVICES) as i64);
    // One value in fifty exceeds the threshold.
    let value = |metric: usize| if (n + metric).is_multiple_of(50) { 100.0 } else { 50.0 };
    let measurements: Vec<_> = (0..METRICS)
        .map(|metric| json!({"type": format!("metric_{metric}"), "val": value(metric)}))
        .collect();
    let payload = json!({"v": 2, "device_id": name, "ts": ts, "seq": seq, "boot": 1, "msg_type": "telemetry",
        "measurements": measurements});
    let received = ReceivedMessage {
        topic: format!("iot/{name}/telemetry"),
        payload: payload.to_string().into(),
        received_at,
    };
    Delivery { id: n.to_string(), received, parse_error: None }
}
