use meter_domain::notice::Notice;
use meter_store::{Notifier, NotifyError};

use super::{Memory, Operation};

impl Notifier for Memory {
    async fn notify(&self, notice: &Notice) -> Result<(), NotifyError> {
        let told = self.call(Operation::Notify, |tables| tables.notices.push(notice.clone())).await;
        told.map_err(|error| NotifyError(error.into()))
    }
}
