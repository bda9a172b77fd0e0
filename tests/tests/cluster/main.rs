//! Black-box tests: real daemons, real folders, on this machine.
//!
//! They need the built programs and some minutes, so they are ignored by a plain `cargo test`;
//! `make test-cluster` runs them (`N=5` for five nodes). docs/testing.md says which environment
//! variables there are.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod admin;
mod authority;
mod barriers;
mod contained;
mod editors;
mod failover;
mod faults;
mod files;
mod flags;
mod full;
mod guards;
mod hang;
mod hosts;
mod ignoring;
mod members;
mod notify;
mod overflow;
mod owners;
mod peers;
mod power;
mod recovery;
mod rotation;
mod sandbox;
mod secrets;
mod storm;
mod tokens;
mod tools;
mod unit;
