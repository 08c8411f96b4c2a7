use super::{Memory, Operation};
use crate::notice::Notice;
use crate::store::{Notifier, NotifyError};

impl Notifier for Memory {
    async fn notify(&self, notice: &Notice) -> Result<(), NotifyError> {
        let told = self.call(Operation::Notify, |tables| tables.notices.push(notice.clone())).await;
        told.map_err(|error| NotifyError(error.into()))
    }
}
