//! Fault tests: no message is lost or duplicated. `make soak` runs more seeds.

mod outage;
mod seeds;
