//! End-to-end tests: MQTT client → Mosquitto → IoT Core emulator → queue → function → stores →
//! REST.
//!
//! Each test starts its own system on free ports in a temporary folder.

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
