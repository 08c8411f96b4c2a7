//! What every function of IoT Meter shares.
//!
//! From pure to outside; each layer knows only those above it:
//! [`time`] and [`id`]; [`message`] and [`sequence`]; the nouns [`device`], [`alert`], [`command`],
//! [`metric`], [`rule`], [`notice`]; [`aggregate`], what windows of time say; [`state`], which turns messages into what is known of a device; [`archive`], the layout
//! of what is kept; [`store`], the ports and their in-memory adapter; [`aws`], the only module that names
//! an SDK type; [`http`]; [`config`] and [`observe`].

pub mod aggregate;
pub mod alert;
pub mod archive;
#[cfg(feature = "aws")]
pub mod aws;
pub mod command;
pub mod config;
pub mod device;
pub mod http;
pub mod id;
pub mod in_messages;
pub mod lock;
pub mod message;
pub mod metric;
pub mod notice;
pub mod observe;
pub mod outbox;
pub mod parts;
pub mod points;
mod purge;
pub mod replay;
pub mod reporting;
pub mod retry;
pub mod rollup;
pub mod rule;
pub mod sequence;
pub mod state;
pub mod store;
pub mod sweep;
pub mod time;
