//! The replicated log: write-ahead log, peer transport, event loop.
//!
//! What the room above sees of it is in [`api`].
pub use pickbox_raft_core as core;

pub mod api;
pub mod bulk;
pub mod clock;
pub mod disk;
pub mod identity;
pub mod log_writer;
pub mod net;
pub mod wal;
