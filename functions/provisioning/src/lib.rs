//! The pre-provisioning hook of AWS IoT: decides whether a client with a claim certificate receives
//! a certificate for a device id. A claim certificate is shared by many devices and can be leaked.
//! A device id is therefore granted once, and only while its device is registered as `claimable`.

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId, InvalidDeviceId};
use meter_domain::time::Timestamp;
use meter_runtime::observability::Metrics;
use meter_service::optimistic_update::{UpdateError, update_device};
use meter_store::{DeviceStore, StoreError};
use serde::{Deserialize, Serialize};

/// The request of AWS IoT, without the fields that are not used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The claim certificate of the connection.
    pub claim_certificate_id: CertificateId,
    /// The certificate that the device would receive.
    pub certificate_id: CertificateId,
    /// The parameters that the device passed to the provisioning template.
    #[serde(default)]
    pub parameters: Parameters,
}

impl Request {
    /// The requested device id.
    ///
    /// # Errors
    ///
    /// The parameter is missing or is not a device id.
    pub fn device_id(&self) -> Result<DeviceId, ClaimError> {
        let name = self.parameters.device_id.as_deref().ok_or(ClaimError::NoDeviceId)?;
        Ok(DeviceId::parse(name)?)
    }
}

/// The parameters of the provisioning template (infra/devices).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Parameters {
    /// The requested device id.
    pub device_id: Option<String>,
}

/// The response to AWS IoT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookResponse {
    /// Whether the template is executed.
    pub allow_provisioning: bool,
}

/// Why a claim is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The parameter is missing.
    #[error("the parameter DeviceId is missing")]
    NoDeviceId,
    /// The parameter is not a device id.
    #[error("the parameter DeviceId {0}")]
    InvalidDeviceId(#[from] InvalidDeviceId),
    /// No device with this id is registered.
    #[error("no device of this id is registered")]
    NotRegistered,
    /// The device is inactive.
    #[error("the device is inactive")]
    Inactive,
    /// The device is claimed, or it is not provisioned by claim.
    #[error("the device is not claimable")]
    NotClaimable,
}

/// Grants or denies a claim. A repeated claim with the same certificate is granted: the response
/// may have been lost.
///
/// # Errors
///
/// The registry failed. AWS IoT rejects the device, which retries.
pub async fn claim<D: DeviceStore>(
    registry: &D,
    request: &Request,
    now: Timestamp,
) -> Result<Result<(), ClaimError>, StoreError> {
    let id = match request.device_id() {
        Ok(id) => id,
        Err(denial) => return Ok(Err(denial)),
    };
    let grant = |device: &mut Device| grant(device, &request.certificate_id);
    match update_device(registry, &id, now, grant).await {
        Ok(_) => Ok(Ok(())),
        Err(UpdateError::NotRegistered) => Ok(Err(ClaimError::NotRegistered)),
        Err(UpdateError::Rejected(denial)) => Ok(Err(denial)),
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

/// The metrics of one claim.
pub fn metrics(response: HookResponse) -> Metrics {
    let mut metrics = Metrics::new("provisioning");
    metrics.count("ClaimsGranted", usize::from(response.allow_provisioning));
    metrics.count("ClaimsDenied", usize::from(!response.allow_provisioning));
    metrics
}
