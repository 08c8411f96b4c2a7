use meter_domain::notification::Notification;
use meter_store::{Notifier, NotifyError};

use super::{MemoryStores, Operation};

impl Notifier for MemoryStores {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let published = self
            .call(Operation::Notify, |tables| tables.notifications.push(notification.clone()))
            .await;
        published.map_err(|error| NotifyError(error.into()))
    }
}
