//! Claims of device ids.

// clippy.toml allows these in tests, but not in the functions that tests share.
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

/// A request as AWS IoT sends it.
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
async fn first_claim_of_a_claimable_device_is_granted_and_others_are_denied() {
    let memory = registered(|_| ()).await;
    assert_eq!(claim_with(&memory, MINE).await, Ok(()));
    let device = stored_device(&memory).await;
    assert_eq!((device.claimable, device.claimed_by), (false, Some(certificate(MINE))));
    assert_eq!(claim_with(&memory, OTHER).await, Err(ClaimError::NotClaimable));
    assert_eq!(stored_device(&memory).await.claimed_by, Some(certificate(MINE)));
}

#[tokio::test]
async fn repeated_claim_with_the_same_certificate_is_granted() {
    let memory = registered(|_| ()).await;
    for _ in 0..2 {
        assert_eq!(claim_with(&memory, MINE).await, Ok(()));
    }
}

#[tokio::test]
async fn one_of_many_concurrent_claims_is_granted() {
    let memory = Arc::new(registered(|_| ()).await);
    let claims = "0123456789abcdef".chars().map(|digit| {
        let memory = Arc::clone(&memory);
        tokio::spawn(async move { claim_with(&memory, digit).await })
    });
    let mut granted = 0;
    for claim in claims.collect::<Vec<_>>() {
        granted += usize::from(claim.await.unwrap().is_ok());
    }
    assert_eq!(granted, 1);
}

#[tokio::test]
async fn device_made_claimable_again_can_be_claimed_again() {
    let memory = registered(|_| ()).await;
    claim_with(&memory, MINE).await.unwrap();
    let before = stored_device(&memory).await;
    let claimable = Device { claimable: true, ..before.clone() };
    memory.update(&before, &claimable).await.unwrap();
    assert_eq!(claim_with(&memory, OTHER).await, Ok(()));
    assert_eq!(claim_with(&memory, MINE).await, Err(ClaimError::NotClaimable));
}

#[tokio::test]
async fn claim_of_a_closed_inactive_or_unregistered_device_is_denied() {
    let closed = registered(|device| device.claimable = false).await;
    assert_eq!(claim_with(&closed, MINE).await, Err(ClaimError::NotClaimable));
    let inactive = registered(|device| device.status = DeviceStatus::Inactive).await;
    assert_eq!(claim_with(&inactive, MINE).await, Err(ClaimError::Inactive));
    assert_eq!(claim_with(&MemoryStores::new(), MINE).await, Err(ClaimError::NotRegistered));
    assert_eq!(stored_device(&closed).await.claimed_by, None);
}

#[tokio::test]
async fn claim_with_an_invalid_device_id_is_denied() {
    let memory = registered(|_| ()).await;
    let claim_with_parameters = |parameters: serde_json::Value| {
        let memory = &memory;
        async move { claim(memory, &request(&parameters, MINE), now()).await.unwrap() }
    };
    assert_eq!(claim_with_parameters(json!({})).await, Err(ClaimError::NoDeviceId));
    let denial = claim_with_parameters(json!({"DeviceId": "m/#"})).await.unwrap_err();
    assert_eq!(denial.to_string(), "the parameter DeviceId must be 1 to 128 of A-Z a-z 0-9 _ : -");
}

#[test]
fn response_uses_the_field_names_of_aws_iot() {
    let response = serde_json::to_value(HookResponse { allow_provisioning: false }).unwrap();
    assert_eq!(response, json!({"allowProvisioning": false}));
}
