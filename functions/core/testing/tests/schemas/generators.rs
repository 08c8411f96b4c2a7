//! Generators of messages, of values near the border of validity, and of commands.

use meter_domain::command::CommandKind;
use meter_domain::metric::KNOWN_METRICS;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{DEVICE, with};

pub(super) fn time() -> impl Strategy<Value = String> {
    let date = (1970..2026, 1..13, 1..29).prop_map(|(y, m, d)| format!("{y}-{m:02}-{d:02}"));
    let clock = (0..24, 0..60, 0..60).prop_map(|(h, m, s)| format!("{h:02}:{m:02}:{s:02}"));
    let offset = "Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]";
    (date, clock, r"(\.[0-9]{1,9})?", offset)
        .prop_map(|(date, clock, fraction, offset)| format!("{date}T{clock}{fraction}{offset}"))
}

fn measurement() -> impl Strategy<Value = Value> {
    let metric = prop_oneof![
        "[A-Za-z0-9_.-]{1,64}".prop_map(|name| (name, "Pa".to_owned())),
        (0..KNOWN_METRICS.len())
            .prop_map(|i| (KNOWN_METRICS[i].name.to_owned(), KNOWN_METRICS[i].unit.to_owned())),
    ];
    let value = prop_oneof![
        any::<f64>()
            .prop_filter("JSON has finite numbers only", |n| n.is_finite())
            .prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
    ];
    let optional = (prop::option::of(time()), any::<bool>());
    (metric, value, optional).prop_map(|((metric, unit), value, (ts, has_unit))| {
        let mut sample = json!({"type": metric, "val": value});
        if let Some(ts) = ts {
            sample["ts"] = json!(ts);
        }
        if has_unit {
            sample["unit"] = json!(unit);
        }
        sample
    })
}

fn fields(list: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let (names, values): (Vec<_>, Vec<_>) = list.into_iter().unzip();
    values.prop_map(move |values| {
        let present = names.iter().zip(values).filter(|(_, value)| !value.is_null());
        Value::Object(present.map(|(name, value)| ((*name).to_owned(), value)).collect())
    })
}

fn any_of<S: Strategy + 'static>(strategy: S) -> BoxedStrategy<Value>
where
    S::Value: Into<Value>,
{
    strategy.prop_map(Into::into).boxed()
}

fn maybe<S: Strategy + 'static>(strategy: S) -> BoxedStrategy<Value>
where
    S::Value: Into<Value>,
{
    prop::option::of(strategy.prop_map(Into::into)).prop_map(|v| v.unwrap_or(Value::Null)).boxed()
}

fn uuid() -> impl Strategy<Value = String> {
    any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string())
}

const SEMVER: &str = r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})(-[a-z]{1,4}(\.(0|[1-9][0-9]{0,2}))?)?(\+[A-Za-z0-9-]{1,8})?";

/// Messages that the document allows: schema and fields.
pub(super) fn valid() -> impl Strategy<Value = (&'static str, Value)> {
    let words = |words: &'static [&'static str]| any_of(prop::sample::select(words));
    let detail = || maybe("\\PC{0,256}");
    let body = move |schema: &'static str| match schema {
        "telemetry-v2" => {
            vec![("measurements", any_of(prop::collection::vec(measurement(), 1..20)))]
        }
        "hello" => vec![
            ("fw_version", any_of(SEMVER)),
            ("uptime_s", any_of(0.0..1e12)),
            ("broker_connections", any_of(any::<u32>())),
            ("buf_usage_pct", any_of(0..=100)),
            ("temp_internal", maybe(-100.0..200.0)),
        ],
        "status" => {
            vec![("status", words(&["online", "offline"])), ("conn_id", maybe("[ -~]{1,128}"))]
        }
        "command_ack" => vec![
            ("cmd_id", any_of(uuid())),
            ("result", words(&["accepted", "rejected", "error", "unsupported"])),
            ("detail", detail()),
        ],
        _ => vec![
            ("cmd_id", any_of(uuid())),
            ("ota_state", words(&["downloading", "verifying", "applying", "success", "failed"])),
            ("progress_pct", maybe(0.0..=100.0)),
            ("fw_version_target", maybe(SEMVER)),
            ("detail", detail()),
        ],
    };
    let version_2 =
        prop::sample::select(&["telemetry-v2", "hello", "status", "command_ack", "ota_status"][..]);
    let version_2 = version_2.prop_flat_map(move |schema| {
        let mut list = body(schema);
        list.push(("ts", any_of(time())));
        list.push(("boot", prop_oneof![maybe("[ -~]{1,64}"), maybe(any::<u32>())].boxed()));
        list.push(("seq", any_of(any::<u32>())));
        fields(list).prop_map(move |body| (schema, with(schema, body)))
    });
    let samples = prop::collection::btree_map("m[.][A-Za-z0-9_.-]{1,62}", -1e9..1e9, 1..20);
    let version_1 = (samples, time(), maybe("[ -~]{0,32}")).prop_map(|(samples, time, unit)| {
        let mut value = json!({"device_id": DEVICE, "timestamp": time});
        let object = value.as_object_mut().unwrap();
        for (name, sample) in samples {
            object.entry(name).or_insert(json!(sample));
        }
        if !unit.is_null() {
            object.insert("unit".to_owned(), unit);
        }
        ("telemetry-v1", value)
    });
    prop_oneof![5 => version_2, 1 => version_1]
}

/// Texts near the border between valid and invalid.
const ODD_TEXTS: [&str; 33] = [
    "",
    "0",
    "1.2.3",
    "v1.2.3",
    "1.2",
    "01.2.3",
    "1.2.3-01",
    "99999999999999999999.0.0",
    "1.2.3-99999999999999999999",
    "2026-02-29T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2026-03-01T12:00:00",
    "2026-03-01T24:00:00Z",
    "2026-03-01t12:00:00z",
    "2016-12-31T23:59:60Z",
    "2026-03-01T12:00:60Z",
    "2026-03-01T12:00:00.1234567891Z",
    "2026-03-01T12:00:00+24:00",
    "2026-03-01T12:00:00-00:00",
    "2026-03-01T12:00:00Z\n",
    "2026-03-01T12:00:00+23:59",
    "0000-01-01T00:00:00Z",
    "{019ca94b-5a00-7c31-9d64-4f1d2b7c9e10}",
    "019CA94B-5A00-7C31-9D64-4F1D2B7C9E10",
    "019ca94b5a007c319d644f1d2b7c9e10",
    "online",
    "accepted",
    "success",
    "completed",
    "hello",
    "telemetry",
    "V",
    "é",
];

/// Values near the border between valid and invalid. An integer with a fraction of zero (`7.0`) is
/// not among them: it is an integer in JSON Schema, but not for the parser (docs/protocol.md,
/// "Rules outside the schema").
pub(super) fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            0_u64,
            1,
            2,
            3,
            100,
            101,
            u64::from(u32::MAX),
            u64::from(u32::MAX) + 1,
            u64::MAX
        ])
        .prop_map(Value::from),
        prop::sample::select(vec![0.5, -0.5, 99.5, 100.5, 1e300]).prop_map(Value::from),
        prop::sample::select(ODD_TEXTS.to_vec()).prop_map(Value::from),
        ("\\PC", 0..1_100_usize).prop_map(|(c, n)| Value::from(c.repeat(n))),
        "\\PC{0,70}".prop_map(Value::from),
        time().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"type": "x", "val": 1}])),
    ]
}

/// Commands with parameters that the REST API accepts.
pub(super) fn params() -> impl Strategy<Value = (CommandKind, Value)> {
    let host =
        ("\\PC{1,253}", 1..=65_535).prop_map(|(host, port)| json!({"host": host, "port": port}));
    let config = fields(vec![
        ("sampling_cadence_ms", any_of(100..=60_000)),
        ("send_interval_s", maybe(1..=3_600)),
        ("hello_interval_s", maybe(5..=3_600)),
        ("brokers", maybe(prop::collection::vec(host, 1..=5))),
    ]);
    let ota = fields(vec![
        ("fw_version", any_of(SEMVER)),
        ("fw_url", any_of("[hH]ttps://[a-z]{1,20}(:[0-9]{1,4})?/[a-z0-9./]{0,40}")),
        ("fw_sha256", any_of("[0-9a-fA-F]{64}")),
        ("fw_size_bytes", any_of(1..=9_007_199_254_740_991_u64)),
    ]);
    let empty = prop::sample::select(vec![
        CommandKind::Reboot,
        CommandKind::FactoryReset,
        CommandKind::RequestStatus,
    ]);
    prop_oneof![
        config.prop_map(|params| (CommandKind::UpdateConfig, params)),
        ota.prop_map(|params| (CommandKind::StartOta, params)),
        empty.prop_map(|cmd| (cmd, json!({}))),
    ]
}
