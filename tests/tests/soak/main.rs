//! Nothing lost, nothing doubled, whatever goes wrong. `make soak` plays many more seeds.

mod outage;
mod seeds;
