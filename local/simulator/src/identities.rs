//! The TLS credentials of devices: certificates and keys, one folder per device.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use rumqttc::Transport;

/// The credentials of each device. Devices without credentials connect without TLS.
#[derive(Clone, Default)]
pub struct Identities {
    transports: HashMap<String, Transport>,
}

/// Prints device ids, never keys.
impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.transports.keys()).finish()
    }
}

impl Identities {
    /// Reads `{folder}/{device id}/` `ca.pem`, `certificate.pem` and `private.key` of each device.
    ///
    /// # Errors
    ///
    /// When a file cannot be read; the error contains its path.
    pub fn read<'a>(folder: &Path, devices: impl Iterator<Item = &'a str>) -> Result<Self> {
        let read = |device: &str, name: &str| {
            let path = folder.join(device).join(name);
            std::fs::read(&path).with_context(|| {
                format!("cannot read {}: `provision add` creates it", path.display())
            })
        };
        let transports = devices.map(|device| {
            let identity = (read(device, "certificate.pem")?, read(device, "private.key")?);
            let transport = Transport::tls(read(device, "ca.pem")?, Some(identity), None);
            Ok((device.to_owned(), transport))
        });
        Ok(Self { transports: transports.collect::<Result<_>>()? })
    }

    pub(crate) fn transport(&self, device: &str) -> Transport {
        self.transports.get(device).cloned().unwrap_or(Transport::Tcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_file_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let error = Identities::read(folder.path(), ["m-1"].into_iter()).unwrap_err().to_string();
        assert!(error.contains("m-1/certificate.pem"), "{error}");
    }

    #[test]
    fn device_without_credentials_connects_without_tls() {
        assert!(matches!(Identities::default().transport("m-1"), Transport::Tcp));
    }
}
