//! The port of notifications.

use std::error::Error;
use std::future::Future;

use meter_domain::notification::Notification;

/// The topic did not accept a notification.
#[derive(Debug, thiserror::Error)]
#[error("the notification was not published")]
pub struct NotifyError(#[source] pub Box<dyn Error + Send + Sync>);

/// Publishes notifications of alerts.
pub trait Notifier: Send + Sync {
    /// Publishes a notification, possibly more than once with the same [`Notification::dedup_id`].
    fn notify(
        &self,
        notification: &Notification,
    ) -> impl Future<Output = Result<(), NotifyError>> + Send;
}
