//! Raft as a machine: `Core::step(now, event, &mut output)`.
//!
//! No I/O, no clock, no threads, no randomness of its own: time and the seed are arguments, what
//! is to be written or sent comes out as values. The same inputs always give the same outputs.
#![no_std]
extern crate alloc;

mod bytes;
mod change;
mod changing;
mod digest;
mod election;
pub mod event;
mod following;
mod handover;
pub mod ids;
mod journal;
mod leading;
pub mod limits;
pub mod log;
mod machine;
pub mod members;
pub mod message;
mod progress;
mod quorum;
mod random;
mod reads;
mod restored;
mod role;
mod supply;
pub mod time;
mod view;

pub use change::Changed;
pub use event::{Event, Output};
pub use machine::{Config, Core, PeerStatus, PreVote};
pub use quorum::Tally;
pub use restored::Restored;
