//! Who gets a device's name, and who does not.

// clippy.toml allows these in tests, but does not see that their helpers are tests, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId, new_id};
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::DeviceStore;
use meter_testing::memory::MemoryStores;
use provisioning::{ClaimError, HookResponse, Request, claim};
use serde_json::{Map, json};

const MINE: char = 'a';
const OTHER: char = 'b';

fn now() -> Timestamp {
    Timestamp::parse("2026-03-10T12:00:00Z").unwrap()
}

fn certificate(digit: char) -> CertificateId {
    String::from_iter([digit; 64]).try_into().unwrap()
}

/// As AWS IoT writes it.
fn request(parameters: &serde_json::Value, digit: char) -> Request {
    serde_json::from_value(json!({
        "claimCertificateId": certificate('c'),
        "certificateId": certificate(digit),
        "certificatePem": "-----BEGIN CERTIFICATE-----",
        "templateArn": "arn:aws:iot:us-east-1:000000000000:provisioningtemplate/devices",
        "clientId": "claim-1",
        "parameters": parameters,
    }))
    .unwrap()
}

async fn registered(change: impl Fn(&mut Device)) -> MemoryStores {
    let memory = MemoryStores::new();
    let device_id = DeviceId::parse("m").unwrap();
    let mut device = Device {
        id: new_id(now()),
        device_id: device_id.clone(),
        device_name: "m".to_owned(),
        device_type: None,
        location: None,
        status: DeviceStatus::Active,
        metadata: Map::new(),
        config: Map::new(),
        command_key: None,
        claimable: true,
        claimed_by: None,
        created_at: now(),
        updated_at: now(),
        revision: 0,
    };
    change(&mut device);
    memory.create(&device, &DeviceState::new(device_id)).await.unwrap();
    memory
}

async fn claim_with(memory: &MemoryStores, digit: char) -> Result<(), ClaimError> {
    claim(memory, &request(&json!({"DeviceId": "m"}), digit), now()).await.unwrap()
}

async fn stored_device(memory: &MemoryStores) -> Device {
    memory.get(&DeviceId::parse("m").unwrap()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_first_claim_of_a_claimable_device_gets_its_name_and_no_other_does() {
    let memory = registered(|_| ()).await;
    assert_eq!(claim_with(&memory, MINE).await, Ok(()));
    let device = stored_device(&memory).await;
    assert_eq!((device.claimable, device.claimed_by), (false, Some(certificate(MINE))));
    assert_eq!(claim_with(&memory, OTHER).await, Err(ClaimError::NotClaimable));
    assert_eq!(stored_device(&memory).await.claimed_by, Some(certificate(MINE)));
}

#[tokio::test]
async fn who_did_not_hear_the_answer_may_ask_again() {
    let memory = registered(|_| ()).await;
    for _ in 0..2 {
        assert_eq!(claim_with(&memory, MINE).await, Ok(()));
    }
}

#[tokio::test]
async fn of_many_at_once_one_gets_the_name() {
    let memory = Arc::new(registered(|_| ()).await);
    let tries = "0123456789abcdef".chars().map(|digit| {
        let memory = Arc::clone(&memory);
        tokio::spawn(async move { claim_with(&memory, digit).await })
    });
    let mut granted = 0;
    for one in tries.collect::<Vec<_>>() {
        granted += usize::from(one.await.unwrap().is_ok());
    }
    assert_eq!(granted, 1);
}

#[tokio::test]
async fn a_device_that_its_owner_opens_again_can_be_claimed_again() {
    let memory = registered(|_| ()).await;
    claim_with(&memory, MINE).await.unwrap();
    let before = stored_device(&memory).await;
    let opened = Device { claimable: true, ..before.clone() };
    memory.update(&before, &opened).await.unwrap();
    assert_eq!(claim_with(&memory, OTHER).await, Ok(()));
    assert_eq!(claim_with(&memory, MINE).await, Err(ClaimError::NotClaimable));
}

#[tokio::test]
async fn what_nobody_opened_nobody_gets() {
    let closed = registered(|device| device.claimable = false).await;
    assert_eq!(claim_with(&closed, MINE).await, Err(ClaimError::NotClaimable));
    let inactive = registered(|device| device.status = DeviceStatus::Inactive).await;
    assert_eq!(claim_with(&inactive, MINE).await, Err(ClaimError::Inactive));
    assert_eq!(claim_with(&MemoryStores::new(), MINE).await, Err(ClaimError::NotRegistered));
    assert_eq!(stored_device(&closed).await.claimed_by, None);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let memory = registered(|_| ()).await;
    let ask = |parameters: serde_json::Value| {
        let memory = &memory;
        async move { claim(memory, &request(&parameters, MINE), now()).await.unwrap() }
    };
    assert_eq!(ask(json!({})).await, Err(ClaimError::NoDeviceId));
    let bad = ask(json!({"DeviceId": "m/#"})).await.unwrap_err();
    assert_eq!(bad.to_string(), "the parameter DeviceId must be 1 to 128 of A-Z a-z 0-9 _ : -");
}

#[test]
fn the_answer_is_in_the_words_of_aws_iot() {
    let answer = serde_json::to_value(HookResponse { allow_provisioning: false }).unwrap();
    assert_eq!(answer, json!({"allowProvisioning": false}));
}
