//! The way to people.

use std::error::Error;
use std::future::Future;

use meter_domain::notification::Notification;

/// Why people were not told.
#[derive(Debug, thiserror::Error)]
#[error("the topic did not take it")]
pub struct NotifyError(#[source] pub Box<dyn Error + Send + Sync>);

/// Tells people of alerts.
pub trait Notifier: Send + Sync {
    /// Publishes a notification. Twice is sometimes not to be avoided: [`Notification::dedup_id`] tells that it is the same.
    fn notify(
        &self,
        notification: &Notification,
    ) -> impl Future<Output = Result<(), NotifyError>> + Send;
}
