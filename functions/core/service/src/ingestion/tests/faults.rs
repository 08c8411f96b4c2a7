//! Redelivery after failures of the process and of the stores.

use proptest::prelude::*;

use super::*;

/// The faults of a run of the property test.
fn faults() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((1_usize..12, any::<bool>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The process fails after any call, or the response of a call is lost. Failed messages are
    /// redelivered in other batches.
    #[test]
    fn every_message_is_stored_once_after_any_failures(
        readings in prop::collection::vec((0_u8..3, 0_i64..2_000), 1..40),
        faults in faults(),
        sizes in prop::collection::vec(1_usize..10, 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let memory = MemoryStores::new();
            register(&memory, "d0").await;
            let all: Vec<_> = readings.iter().map(|(d, s)| reading(&format!("d{d}"), *s, "pf", *s as f64)).collect();
            let mut queue = all.clone();
            let mut faults = faults.into_iter();
            let mut sizes = sizes.into_iter().cycle();
            let mut rounds = 0;
            while !queue.is_empty() {
                rounds += 1;
                prop_assert!(rounds < 1_000, "messages are redelivered forever");
                let size = sizes.next().unwrap().min(queue.len());
                let batch: Vec<_> = queue.drain(..size).collect();
                match faults.next() {
                    Some((calls, true)) => memory.fail_all_after(calls),
                    Some((nth, false)) => {
                        memory.fail_nth(Operation::PutSegments, nth, Fault::LoseResponse);
                        memory.fail_nth(Operation::SaveStates, nth, Fault::LoseResponse);
                    }
                    None => memory.clear_faults(),
                }
                let outcome = ingestion(&memory).ingest(&batch, now()).await;
                memory.clear_faults();
                queue.extend(outcome.failed.iter().map(|index| batch[*index].clone()));
            }
            for device in ["d0", "d1", "d2"] {
                let mut expected: Vec<_> = readings.iter().filter(|(d, _)| format!("d{d}") == device).map(|(_, s)| *s as f64).collect();
                expected.sort_by(f64::total_cmp);
                expected.dedup();
                prop_assert_eq!(archived(&memory, device).await, expected.len());
                prop_assert_eq!(values(&memory, device).await, expected);
            }
            Ok(())
        })?;
    }
}
