use std::collections::BTreeSet;

use futures::future::join_all;
use meter_domain::rule::{MAX_RULES, Rule};
use meter_store::{CreateRuleError, DeviceStore, RuleStore, WriteError};

use super::contract_tests;
use crate::fixtures::{self, collect_pages, register_device, rule, second};
use crate::ports::Ports;

contract_tests! {
    a_rule_is_read_back_as_it_was_stored
    a_rule_is_replaced_and_removed_at_the_version_that_was_read
    of_many_who_replace_a_rule_one_does
    rules_are_listed_newest_first
    all_rules_are_those_of_their_generation
    there_are_no_more_rules_than_there_may_be
    the_state_knows_the_type_that_the_registry_has
}

async fn create(ports: &impl Ports, rule: &Rule) {
    ports.rules().create(rule).await.unwrap();
}

async fn a_rule_is_read_back_as_it_was_stored(ports: &impl Ports) {
    let stored = rule(second(1));
    create(ports, &stored).await;
    assert_eq!(ports.rules().get(stored.rule_id).await.unwrap(), Some(stored));
    assert_eq!(ports.rules().get(rule(second(1)).rule_id).await.unwrap(), None);
}

async fn a_rule_is_replaced_and_removed_at_the_version_that_was_read(ports: &impl Ports) {
    let stored = rule(second(1));
    let second_version = Rule { name: "other".to_owned(), version: 2, ..stored.clone() };
    let early = ports.rules().replace(&second_version).await;
    assert!(matches!(early, Err(WriteError::Conflict)), "{early:?}");
    create(ports, &stored).await;
    ports.rules().replace(&second_version).await.unwrap();
    for version in [1, 2, 4] {
        let late = ports.rules().replace(&Rule { version, ..stored.clone() }).await;
        assert!(matches!(late, Err(WriteError::Conflict)), "{version}: {late:?}");
    }
    assert_eq!(ports.rules().get(stored.rule_id).await.unwrap(), Some(second_version));
    for (version, is_refused) in [(1, true), (2, false), (2, true)] {
        let removed = ports.rules().remove(stored.rule_id, version).await;
        assert_eq!(matches!(removed, Err(WriteError::Conflict)), is_refused, "{removed:?}");
    }
    assert_eq!(ports.rules().get(stored.rule_id).await.unwrap(), None);
}

async fn of_many_who_replace_a_rule_one_does(ports: &impl Ports) {
    let stored = rule(second(1));
    create(ports, &stored).await;
    let tries = (0..5).map(|n| {
        let (ports, changed) = (ports.clone(), Rule { for_s: n, version: 2, ..stored.clone() });
        async move { ports.rules().replace(&changed).await.is_ok() }
    });
    let replaced = join_all(tries).await.into_iter().filter(|done| *done).count();
    assert_eq!(replaced, 1);
    assert_eq!(ports.rules().all().await.unwrap().generation, 2);
}

async fn rules_are_listed_newest_first(ports: &impl Ports) {
    let rules: Vec<Rule> = (0..12).map(|n| rule(second(n))).collect();
    for rule in &rules {
        create(ports, rule).await;
    }
    let listed = collect_pages!(5, |request| ports.rules().list(&request));
    assert_eq!(listed, rules.into_iter().rev().collect::<Vec<_>>());
}

async fn all_rules_are_those_of_their_generation(ports: &impl Ports) {
    let nothing = ports.rules().all().await.unwrap();
    assert_eq!((nothing.rules, nothing.generation), (vec![], 0));
    let (one, other) = (rule(second(1)), rule(second(2)));
    create(ports, &one).await;
    create(ports, &other).await;
    ports.rules().replace(&Rule { version: 2, ..one.clone() }).await.unwrap();
    ports.rules().remove(other.rule_id, 1).await.unwrap();
    let all = ports.rules().all().await.unwrap();
    assert_eq!((all.rules, all.generation), (vec![Rule { version: 2, ..one }], 4));
}

async fn there_are_no_more_rules_than_there_may_be(ports: &impl Ports) {
    let rules: Vec<Rule> = (0..MAX_RULES).map(|n| rule(second(n as i64))).collect();
    for some in rules.chunks(50) {
        join_all(some.iter().map(|rule| create(ports, rule))).await;
    }
    let refused = ports.rules().create(&rule(second(5))).await;
    assert!(matches!(refused, Err(CreateRuleError::LimitReached)), "{refused:?}");
    let all = ports.rules().all().await.unwrap();
    let ids: BTreeSet<_> = all.rules.iter().map(|rule| rule.rule_id).collect();
    assert_eq!((ids.len() as u64, all.generation), (MAX_RULES, MAX_RULES));
    ports.rules().remove(rules[0].rule_id, 1).await.unwrap();
    create(ports, &rule(second(6))).await;
}

async fn the_state_knows_the_type_that_the_registry_has(ports: &impl Ports) {
    let mut before = register_device(ports, "m").await;
    for device_type in [Some("pump"), None, None, Some("meter")] {
        let read = fixtures::state(ports, "m").await;
        let after = meter_domain::device::Device {
            device_type: device_type.map(str::to_owned),
            ..before.clone()
        };
        ports.devices().update(&before, &after).await.unwrap();
        let state = fixtures::state(ports, "m").await;
        assert_eq!(state.device_type.as_deref(), device_type);
        assert!(state.version > read.version || before.device_type == after.device_type);
        before = meter_domain::device::Device { revision: before.revision + 1, ..after };
    }
}
