//! The pre-provisioning hook of AWS IoT: who holds a claim certificate asks for a certificate under a device's name, and
//! this says whether they get it. A claim certificate is shared by many devices, and may be in anybody's hands; so a
//! name is given only while its registration says that it may be (`claimable`), and once.

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId, InvalidDeviceId};
use meter_domain::time::Timestamp;
use meter_runtime::observability::Metrics;
use meter_service::optimistic_update::{UpdateError, update_device};
use meter_store::{DeviceStore, StoreError};
use serde::{Deserialize, Serialize};

/// What AWS IoT asks when a device wants to register, in the parts that matter here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The claim certificate that the device has connected with.
    pub claim_certificate_id: CertificateId,
    /// The certificate that it would get.
    pub certificate_id: CertificateId,
    /// What the device gives the template.
    #[serde(default)]
    pub parameters: Parameters,
}

impl Request {
    /// The name that the device asks for.
    ///
    /// # Errors
    ///
    /// It asks for none, or for one that no device can have.
    pub fn device_id(&self) -> Result<DeviceId, ClaimError> {
        let name = self.parameters.device_id.as_deref().ok_or(ClaimError::NoDeviceId)?;
        Ok(DeviceId::parse(name)?)
    }
}

/// The parameters of the template in infra/devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Parameters {
    /// The name that it asks for.
    pub device_id: Option<String>,
}

/// What AWS IoT wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookResponse {
    /// Whether the template is carried out.
    pub allow_provisioning: bool,
}

/// Why a name is not given away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is no name among the parameters.
    #[error("the parameter DeviceId is missing")]
    NoDeviceId,
    /// It is none that a device can have.
    #[error("the parameter DeviceId {0}")]
    InvalidDeviceId(#[from] InvalidDeviceId),
    /// Nobody expects this device.
    #[error("no device of this id is registered")]
    NotRegistered,
    /// Its owner has taken it out of use.
    #[error("the device is inactive")]
    Inactive,
    /// Somebody has it, or it gets its certificate in another way.
    #[error("the device is not claimable")]
    NotClaimable,
}

/// Gives a name away, or says why not. The same certificate may ask again: a device that did not hear the answer does.
///
/// # Errors
///
/// The registry does not answer; AWS IoT refuses the device then, which asks again.
pub async fn claim<D: DeviceStore>(
    registry: &D,
    request: &Request,
    now: Timestamp,
) -> Result<Result<(), ClaimError>, StoreError> {
    let id = match request.device_id() {
        Ok(id) => id,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let grant = |device: &mut Device| grant(device, &request.certificate_id);
    match update_device(registry, &id, now, grant).await {
        Ok(_) => Ok(Ok(())),
        Err(UpdateError::NotRegistered) => Ok(Err(ClaimError::NotRegistered)),
        Err(UpdateError::Rejected(refusal)) => Ok(Err(refusal)),
        Err(UpdateError::Store(error)) => Err(error),
    }
}

fn grant(device: &mut Device, certificate: &CertificateId) -> Result<(), ClaimError> {
    if device.status != DeviceStatus::Active {
        return Err(ClaimError::Inactive);
    }
    if !device.claimable && device.claimed_by.as_ref() != Some(certificate) {
        return Err(ClaimError::NotClaimable);
    }
    device.claimable = false;
    device.claimed_by = Some(certificate.clone());
    Ok(())
}

/// One claim, for CloudWatch.
pub fn metrics(answer: HookResponse) -> Metrics {
    let mut metrics = Metrics::new("provisioning");
    metrics.count("ClaimsGranted", usize::from(answer.allow_provisioning));
    metrics.count("ClaimsDenied", usize::from(!answer.allow_provisioning));
    metrics
}
