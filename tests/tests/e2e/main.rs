//! The running system from outside: MQTT client → Mosquitto → edge → queue → function → stores → REST.
//!
//! Each test starts a system of its own, on free ports, in a temporary folder.

mod alert_rules;
mod commands;
mod compose;
mod load;
mod older_client;
mod operators;
mod redrive;
mod replay;
mod secure;
mod telemetry;
mod traces;
mod watchdog;
