use proptest::prelude::*;

use super::*;
use crate::state::Connection;
use crate::state::fixtures::{POLICY, hello, registered, second, status, telemetry};

#[test]
fn messages_do_not_postpone_the_cleanup() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    assert_eq!(state.next_check, Some(second(60)));
    for s in 1..600 {
        state.apply(&[&telemetry(s, "pf", 1.0)], &POLICY);
        assert!(state.next_check <= Some(second(60)), "{s}: {:?}", state.next_check);
    }
    state.complete_cleanup(second(0), true);
    assert_eq!((state.next_check, state.cleanup), (None, None));
}

#[test]
fn purge_resets_the_state_once() {
    let mut state = registered();
    state.apply(&[&telemetry(1, "pf", 1.0), &hello(2, "1.0.0")], &POLICY);
    state.mark_deleted(second(3), true, &POLICY);
    let version = state.version;
    state.record_purged_before(second(3), Timestamp::min());
    assert!(state.latest.is_empty() && state.fw_version.is_none() && state.hello.is_none());
    assert_eq!((state.version, state.presence.connection), (version, Connection::Unknown));
    state.apply(&[&telemetry(4, "pf", 2.0)], &POLICY);
    state.record_purged_before(second(3), second(100));
    state.record_purged_before(second(3), second(50));
    let purge = PurgeStage::RemovingMessages { purged_before: second(100) };
    assert_eq!(state.cleanup.unwrap().purge, purge);
    assert_eq!(state.latest.len(), 1);
}

#[test]
fn registration_ends_cleanup_and_purge() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    state.register(second(1), &POLICY);
    state.apply(&[&telemetry(2, "pf", 1.0)], &POLICY);
    let before = state.clone();
    state.record_purged_before(second(0), second(100));
    state.complete_cleanup(second(0), true);
    state.request_purge(second(5), &POLICY);
    assert_eq!(state, before);
    assert!(state.next_check.is_some());
}

#[test]
fn purge_requested_during_cleanup_stays_pending() {
    let mut state = registered();
    state.mark_deleted(second(0), false, &POLICY);
    state.request_purge(second(5), &POLICY);
    state.complete_cleanup(second(0), false);
    let cleanup = state.cleanup.unwrap();
    assert_eq!((cleanup.since, cleanup.purge), (second(0), PurgeStage::Requested));
    assert!(state.next_check.is_some());
    state.complete_cleanup(second(0), true);
    assert_eq!(state.cleanup, None);
}

#[test]
fn cleanup_of_an_earlier_deletion_does_not_complete_a_later_one() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    state.register(second(10), &POLICY);
    state.set_report_interval(Some(600), second(11), &POLICY);
    state.mark_deleted(second(20), true, &POLICY);
    assert_eq!(state.report_interval_s, None, "the next registration has its own configuration");
    let before = state.clone();
    state.record_purged_before(second(0), second(15));
    state.complete_cleanup(second(0), true);
    assert_eq!(state, before);
}

#[test]
fn purge_requested_during_the_search_repeats_it() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    state.record_purged_before(second(0), second(5));
    state.record_searched_before(second(0), second(9));
    state.record_searched_before(second(0), second(7));
    let (purged_before, searched_before) = (second(5), second(9));
    let searching = PurgeStage::SearchingArchive { purged_before, searched_before };
    assert_eq!(state.cleanup.unwrap().purge, searching);
    state.request_purge(second(20), &POLICY);
    let removing = PurgeStage::RemovingMessages { purged_before };
    assert_eq!((state.cleanup.unwrap().purge, state.purged_at), (removing, Some(second(20))));
}

proptest! {
    #[test]
    fn invariants_hold_for_any_order_of_requests_and_progress(
        steps in prop::collection::vec((0_u8..8, any::<bool>(), 0_i64..100), 1..60),
    ) {
        let mut state = registered();
        for (now, (step, flag, other)) in (1_i64..).zip(steps) {
            let (at, other) = (second(now), second(other));
            let before = state.clone();
            let since = state.cleanup.filter(|_| flag).map_or(other, |cleanup| cleanup.since);
            match step {
                0 => state.register(at, &POLICY),
                1 => state.mark_deleted(at, flag, &POLICY),
                2 => state.request_purge(at, &POLICY),
                3 => state.record_purged_before(since, other),
                4 => state.record_searched_before(since, other),
                5 => state.complete_cleanup(since, flag),
                6 => state.apply(&[&telemetry(now, "pf", 1.0)], &POLICY),
                _ => state.apply(&[&status(now, "offline", None)], &POLICY),
            }
            prop_assert!(!state.registered || state.cleanup.is_none());
            prop_assert!(state.registered || state.outbox.is_empty());
            prop_assert!(state.purged_at >= before.purged_at);
            prop_assert!(state.cleanup.is_none() || state.next_check.is_some());
            if let (Some(old), Some(new)) = (before.cleanup, state.cleanup)
                && old.since == new.since
                && step != 2
            {
                let stage = |purge| match purge {
                    PurgeStage::NotRequested => (0, None, None),
                    PurgeStage::Requested => (1, None, None),
                    PurgeStage::RemovingMessages { purged_before } => (2, Some(purged_before), None),
                    PurgeStage::SearchingArchive { purged_before, searched_before } => {
                        (3, Some(purged_before), Some(searched_before))
                    }
                };
                prop_assert!(stage(new.purge) >= stage(old.purge), "{:?} {:?}", old, new);
            }
        }
    }
}
