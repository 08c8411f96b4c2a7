//! The way to people.

use std::error::Error;
use std::future::Future;

use meter_domain::notice::Notice;

/// Why people were not told.
#[derive(Debug, thiserror::Error)]
#[error("the topic did not take it")]
pub struct NotifyError(#[source] pub Box<dyn Error + Send + Sync>);

/// Tells people of alerts.
pub trait Notifier: Send + Sync {
    /// Publishes a notice. Twice is sometimes not to be avoided: [`Notice::dedup_id`] tells that it is the same.
    fn notify(&self, notice: &Notice) -> impl Future<Output = Result<(), NotifyError>> + Send;
}
