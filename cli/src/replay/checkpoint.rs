//! The checkpoint of a replay: an object in the archive bucket, so that a run resumes on any
//! machine.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use meter_aws::S3Archive;
use meter_service::replay::ReplayProgress;
use meter_store::Archive;
use sha2::{Digest, Sha256};

use crate::options::ReplayArgs;

/// The checkpoint that all runs with the same arguments share.
pub(crate) struct Checkpoint<'a> {
    bucket: &'a S3Archive,
    key: String,
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn new(bucket: &'a S3Archive, args: &ReplayArgs) -> Self {
        let ReplayArgs { start, stop, device, .. } = args;
        let device = device.as_ref().map_or("", |id| id.as_str());
        let digest = Sha256::digest(format!("{start}\n{stop}\n{device}"));
        Self { bucket, key: format!("replay/{}.json", hex::encode(&digest[..16])) }
    }

    /// The progress of an earlier run that did not end.
    pub(crate) async fn read(&self) -> Result<Option<ReplayProgress>> {
        let Some(object) = self.bucket.get_versioned(&self.key).await? else { return Ok(None) };
        let progress = serde_json::from_slice(&object.body);
        let key = &self.key;
        progress.with_context(|| format!("{key} is invalid (--restart replaces it)")).map(Some)
    }

    pub(crate) async fn write(&self, progress: &ReplayProgress) -> Result<()> {
        let body = Bytes::from(serde_json::to_vec(progress)?);
        Ok(self.bucket.put(&self.key, "application/json", body).await?)
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        Ok(self.bucket.remove(&self.key).await?)
    }
}
