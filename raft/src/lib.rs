//! The replicated log: write-ahead log, peer transport, event loop.
//!
//! What the room above sees of it is in [`api`]. [`open`](open()) puts the parts together:
//!
//! ```text
//!   Handle ─ Command ─▶ consensus ─ Job ─▶ log-writer ─▶ disk
//!   ◀──── Delivery ────   │   ▲  ◀─ LogEvent ─┘
//!                         ▼   │ messages of Raft
//!                  gate ─▶ peers ◀─▶ bulk ─ BulkEvent ─▶
//! ```
//!
//! The consensus thread ([`consensus`]) owns Raft's state machine and the sockets of its peers,
//! and never touches a disk; the log writer syncs for it ([`log_writer`], [`wal`]); contents have
//! connections and a thread of their own ([`bulk`]); whoever connects is met by another one, and gets no
//! further without a member's key ([`net::gate`]).
pub use pickbox_raft_core as core;

pub mod api;
pub mod bulk;
pub mod clock;
pub mod consensus;
pub mod credentials;
pub mod disk;
pub mod handoff;
pub mod identity;
pub mod join;
pub mod keys;
pub mod log_writer;
pub mod lost;
pub mod net;
mod open;
pub mod recover;
mod roster;
pub mod runs;
pub mod token;
pub mod trace;
pub mod wal;

pub use consensus::{Closed, Handle, Stop};
pub use open::{Error, Options, Parts, Start, listen, open};

#[cfg(test)]
mod cluster_tests;
