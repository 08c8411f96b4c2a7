//! Commands to devices.

mod acknowledge;
mod create;
mod list;
mod params;
mod view;

pub(crate) use self::acknowledge::acknowledge;
pub(crate) use self::create::create;
pub(crate) use self::list::list;
