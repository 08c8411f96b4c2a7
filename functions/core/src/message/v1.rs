use super::*;
pub(super) fn read(
    _r: &Received,
    _d: DeviceId,
    _c: Category,
    _o: &serde_json::Map<String, serde_json::Value>,
) -> Result<Message, Unreadable> {
    Err(Unreadable::Topic)
}
