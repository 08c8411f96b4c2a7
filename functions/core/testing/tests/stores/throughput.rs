//! Benchmark of the adapters on MiniStack. It asserts no rates, so it runs on demand: `cargo
//! nextest run -p meter-testing --run-ignored only --no-capture throughput`.

use std::time::Instant;

use meter_domain::state::{Connection, DeviceState};
use meter_store::{MessageStore, StateStore, StateWrite};
use meter_testing::contract::Ports;
use meter_testing::fixtures::{
    first_segment, id, register_device, sample, second, state, with_connection,
};

use crate::emulator::Emulator;

fn print_rate(what: &str, count: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("{what:<58} {:>8.0} a second", count as f64 / seconds);
}

#[tokio::test]
#[ignore = "benchmark"]
async fn throughput_on_ministack() {
    let emulator = Emulator::ministack().await;
    let ports = crate::new_aws_ports(&emulator.url).await;

    let segments: Vec<_> = (0..5_000)
        .map(|n| {
            let ts = second(n as i64);
            let mut segment = first_segment(&format!("m{}", n % 100), ts, n);
            segment.samples = (0..20)
                .map(|i| sample("voltage_dc", ts, i, 1_500.0 + f64::from(i) / 7.0))
                .collect();
            segment
        })
        .collect();
    let since = Instant::now();
    for batch in segments.chunks(1_000) {
        ports.messages().put(batch).await.unwrap();
    }
    print_rate("messages of 20 samples, 1,000 a call", segments.len(), since);

    let write = |state: DeviceState, connection_before| StateWrite { state, connection_before };
    let mut versions = (0..1_000)
        .map(|n| {
            let new = DeviceState::new(id(&format!("s{n}")));
            // As for a device that is online.
            DeviceState { next_check: Some(second(60)), ..new }
        })
        .collect::<Vec<_>>();
    let since = Instant::now();
    for _ in 0..5 {
        let writes: Vec<_> =
            versions.iter().map(|s| write(s.clone(), Connection::Unknown)).collect();
        let results = ports.states().save_many(&writes).await;
        assert!(results.iter().all(Result::is_ok));
        versions.iter_mut().for_each(|state| state.version += 1);
    }
    print_rate("states whose connection stays, 1,000 a call", 5_000, since);

    let mut writes = Vec::new();
    for n in 0..500 {
        let name = format!("r{n}");
        register_device(&ports, &name).await;
        let online = with_connection(state(&ports, &name).await, Connection::Online);
        writes.push(write(online, Connection::Unknown));
    }
    let since = Instant::now();
    let results = ports.states().save_many(&writes).await;
    assert!(results.iter().all(Result::is_ok));
    print_rate("states of registered devices that come online, 500 a call", 500, since);

    let ids: Vec<_> = versions.iter().map(|state| state.device_id.clone()).collect();
    let since = Instant::now();
    assert_eq!(ports.states().get_many(&ids).await.unwrap().len(), 1_000);
    print_rate("states read, 1,000 a call", 1_000, since);
}
