//! Offline detection, sequence gaps, report intervals and alert rules.

use super::*;

#[tokio::test]
async fn silent_device_is_offline_with_one_alert_until_its_next_message() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    assert_eq!(run(&memory, 59).await, WatchdogReport::default(), "nothing is due");
    assert_eq!(run(&memory, 60).await.went_offline, 1);
    for s in [120, 180, 240] {
        assert_eq!(run(&memory, s).await.went_offline, 0);
    }
    let alerts = memory.alerts(&id("m"));
    assert_eq!((alerts.len(), connection(&memory, "m")), (1, Connection::Offline));
    receive_telemetry(&memory, "m", 300, 1).await;
    assert_eq!(connection(&memory, "m"), Connection::Online);
    assert_eq!(memory.alerts(&id("m"))[0].resolved_at, Some(second(300)));
    let counts = memory.counts().await.unwrap();
    assert_eq!(counts.by_connection.get(&Connection::Online), Some(&1));
}

#[tokio::test]
async fn offline_detection_respects_the_report_interval() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({"send_interval_s": 600, "hello_interval_s": 200})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    for s in (60..600).step_by(60) {
        run(&memory, s).await;
        assert_eq!(connection(&memory, "m"), Connection::Online, "{s}");
    }
    assert_eq!(memory.calls(Operation::GetDevice), 1, "the registry is read once");
    assert_eq!(run(&memory, 600).await.went_offline, 1);
}

#[tokio::test]
async fn no_device_is_set_offline_while_ingest_lags() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    let lagging = watchdog(&memory, 5).run(second(60)).await.unwrap();
    assert_eq!(
        (lagging.ingest_lagging, lagging.went_offline),
        (true, 0),
        "messages are queued, and no lag is reported"
    );
    let report_lag = async |process, s, lag_s| {
        let progress =
            IngestLag { process_id: Uuid::from_u128(process), reported_at: second(s), lag_s };
        memory.record_ingest_lag(progress).await.unwrap();
    };
    report_lag(1, 118, 90).await;
    // Another process reports a small lag later.
    report_lag(2, 119, 0).await;
    assert!(
        watchdog(&memory, 5).run(second(120)).await.unwrap().ingest_lagging,
        "the greatest reported lag applies"
    );
    report_lag(2, 179, 1).await;
    assert_eq!(watchdog(&memory, 5).run(second(180)).await.unwrap().went_offline, 1);
}

#[tokio::test]
async fn unavailable_queue_does_not_block_commands_and_cleanups() {
    let memory = MemoryStores::new();
    register(&memory, "gone", json!({})).await;
    delete(&memory, "gone", 10, false).await;
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    let request_status = command(CommandKind::RequestStatus, 0);
    CommandStore::create(&memory, &request_status, None).await.unwrap();
    memory.fail_next(Operation::GetDepth, Fault::Reject);
    let report = run(&memory, 120).await;
    assert_eq!((report.cleaned_up, report.republished, report.went_offline), (1, 1, 0));
    assert_eq!((report.ingest_lagging, report.failed), (true, 1));
}

#[tokio::test]
async fn failed_query_does_not_block_the_other_query() {
    for operation in [Operation::ListDueStates, Operation::ListDueCommands] {
        let memory = MemoryStores::new();
        register(&memory, "m", json!({})).await;
        receive_telemetry(&memory, "m", 0, 0).await;
        let request_status = command(CommandKind::RequestStatus, 0);
        CommandStore::create(&memory, &request_status, None).await.unwrap();
        memory.fail_next(operation, Fault::Reject);
        let report = run(&memory, 120).await;
        let expected = if operation == Operation::ListDueStates { (0, 1) } else { (1, 0) };
        assert_eq!((report.went_offline, report.republished), expected, "{operation:?}");
        assert_eq!(report.failed, 1);
    }
    let memory = MemoryStores::new();
    memory.fail_always(Operation::ListDueStates);
    memory.fail_always(Operation::ListDueCommands);
    assert!(watchdog(&memory, 0).run(second(120)).await.is_err());
}

#[tokio::test]
async fn sequence_gap_opens_an_alert_after_the_grace_period() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    for (s, seq) in [(0, 1), (10, 5), (60, 6), (70, 7)] {
        receive_telemetry(&memory, "m", s, seq).await;
    }
    run(&memory, 60).await;
    assert!(memory.alerts(&id("m")).is_empty());
    run(&memory, 120).await;
    let alerts = memory.alerts(&id("m"));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!(alerts[0].message.ends_with("2 to 4"), "{}", alerts[0].message);
    for seq in 2..=4 {
        receive_telemetry(&memory, "m", 130, seq).await;
    }
    assert_eq!(memory.alerts(&id("m"))[0].resolved_at, Some(second(130)));
}

#[tokio::test]
async fn shorter_interval_applies_from_its_acceptance_after_a_failed_effect() {
    for fault in [None, Some(Operation::SaveStates), Some(Operation::GetDevice)] {
        let memory = MemoryStores::new();
        register(&memory, "m", json!({"send_interval_s": 1_200, "hello_interval_s": 1_200})).await;
        receive_telemetry(&memory, "m", 0, 0).await;
        run(&memory, 60).await;
        assert_eq!(memory.state(&id("m")).unwrap().next_check, Some(second(3_600)));
        let params = json!({"send_interval_s": 40}).as_object().unwrap().clone();
        let shorter = Command { params, ..command(CommandKind::UpdateConfig, 60) };
        CommandStore::create(&memory, &shorter, None).await.unwrap();
        let ack = json!({"v": 2, "device_id": "m", "ts": second(70), "seq": 1, "msg_type": "command_ack",
            "cmd_id": shorter.cmd_id, "result": "accepted"});
        let message = parse(&ReceivedMessage {
            topic: "iot/m/command/ack".to_owned(),
            payload: ack.to_string().into(),
            received_at: second(70),
        })
        .unwrap();
        let apply = |state: &mut DeviceState| state.apply(&[&message], &POLICY);
        let state = optimistic_update::update_state(&memory, &id("m"), apply).await.unwrap();
        if let Some(operation) = fault {
            memory.fail_next(operation, Fault::Reject);
        }
        let result = effects::dispatch_due_effects(&memory, state, second(70), &POLICY).await;
        assert_eq!(result.is_err(), fault.is_some());
        for s in (120..=240).step_by(60) {
            run(&memory, s).await;
        }
        assert_eq!(connection(&memory, "m"), Connection::Offline, "{fault:?}");
    }
}

#[tokio::test]
async fn missing_data_opens_the_alert_of_its_rule_unless_ingest_lags() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let rule = Rule {
        rule_id: new_id(second(0)),
        name: "quiet".to_owned(),
        enabled: true,
        scope: Scope::DeviceId(id("m")),
        metric: MetricName::parse("pf").unwrap(),
        condition: Condition::NoData,
        for_s: 300,
        severity: Severity::Critical,
        message: None,
        notify: true,
        created_at: second(0),
        updated_at: second(0),
        version: 1,
    };
    RuleStore::create(&memory, &rule).await.unwrap();
    receive_telemetry(&memory, "m", 100, 0).await;
    // The device sends other messages.
    let send_hello = async |s| {
        let hello = json!({"v": 2, "device_id": "m", "ts": second(s), "msg_type": "hello", "seq": s,
            "boot": 1, "fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
        receive_message(&memory, "hello", s, hello).await;
    };
    for s in [150, 200, 250, 300, 350, 390] {
        send_hello(s).await;
        run(&memory, s).await;
    }
    let raised = || {
        let alerts = memory.alerts(&id("m")).into_iter();
        alerts.filter(|alert| alert.rule_id == Some(rule.rule_id)).collect::<Vec<_>>()
    };
    assert_eq!(raised(), []);
    send_hello(430).await;
    assert!(watchdog(&memory, 5).run(second(440)).await.unwrap().ingest_lagging);
    assert_eq!(raised(), []);
    run(&memory, 481).await;
    run(&memory, 550).await;
    let alerts = raised();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].alert_type.as_str(), alerts[0].created_at), ("no_data", second(100)));
}
