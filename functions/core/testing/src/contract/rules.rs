use std::collections::BTreeSet;

use futures::future::join_all;
use meter_domain::rule::{MAX_RULES, Rule};
use meter_store::{CreateRuleError, RuleStore, WriteError};

use super::{Ports, contracts};
use crate::fixtures::{collect_pages, rule, second};

contracts! {
    rule_reads_back_exactly
    replace_and_remove_of_outdated_rule_version_conflict
    rules_are_listed_newest_first
    all_rules_are_returned_with_their_generation
    ; concurrent:
    concurrent_replacements_of_a_rule_succeed_once
    rule_limit_is_enforced
}

async fn create(ports: &impl Ports, rule: &Rule) {
    ports.rules().create(rule).await.unwrap();
}

async fn rule_reads_back_exactly(ports: &impl Ports) {
    let stored = rule(second(1));
    create(ports, &stored).await;
    assert_eq!(ports.rules().get(stored.rule_id).await.unwrap(), Some(stored));
    assert_eq!(ports.rules().get(rule(second(1)).rule_id).await.unwrap(), None);
}

async fn replace_and_remove_of_outdated_rule_version_conflict(ports: &impl Ports) {
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
    for (version, is_conflict) in [(1, true), (2, false), (2, true)] {
        let removed = ports.rules().remove(stored.rule_id, version).await;
        assert_eq!(matches!(removed, Err(WriteError::Conflict)), is_conflict, "{removed:?}");
    }
    assert_eq!(ports.rules().get(stored.rule_id).await.unwrap(), None);
}

async fn concurrent_replacements_of_a_rule_succeed_once(ports: &impl Ports) {
    let stored = rule(second(1));
    create(ports, &stored).await;
    let tries = (0..5).map(|n| {
        let (ports, changed) = (ports.clone(), Rule { for_s: n, version: 2, ..stored.clone() });
        async move { ports.rules().replace(&changed).await.is_ok() }
    });
    let replaced = join_all(tries).await.into_iter().filter(|is_ok| *is_ok).count();
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

async fn all_rules_are_returned_with_their_generation(ports: &impl Ports) {
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

async fn rule_limit_is_enforced(ports: &impl Ports) {
    let rules: Vec<Rule> = (0..MAX_RULES).map(|n| rule(second(n as i64))).collect();
    for some in rules.chunks(50) {
        join_all(some.iter().map(|rule| create(ports, rule))).await;
    }
    let rejected = ports.rules().create(&rule(second(5))).await;
    assert!(matches!(rejected, Err(CreateRuleError::LimitReached)), "{rejected:?}");
    let all = ports.rules().all().await.unwrap();
    let ids: BTreeSet<_> = all.rules.iter().map(|rule| rule.rule_id).collect();
    assert_eq!((ids.len() as u64, all.generation), (MAX_RULES, MAX_RULES));
    ports.rules().remove(rules[0].rule_id, 1).await.unwrap();
    create(ports, &rule(second(6))).await;
}
