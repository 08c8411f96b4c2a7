//! Registered devices.

mod create;
mod delete;
mod fields;
mod get;
mod list;
mod update;
mod view;

pub(crate) use self::create::create;
pub(crate) use self::delete::delete;
pub(crate) use self::get::get;
pub(crate) use self::list::list;
pub(crate) use self::update::{change, update};
pub(crate) use self::view::View;
