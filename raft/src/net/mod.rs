//! Peer transport: framed, versioned, checksummed messages over non-blocking sockets.
//!
//! Each node listens at one address. A pair of members uses two connections for each purpose
//! (consensus, contents): the one who speaks dials. So who dials and who accepts never race, and
//! each direction has its own back-pressure. A connection begins with a handshake (`hello`) that
//! names the cluster, both nodes and the purpose; what does not fit is refused by name, counted,
//! and logged once in a while.
//!
//! The consensus thread owns the listener and its connections (`transport`); content connections
//! go to the bulk thread ([`crate::bulk`]), so that no transfer delays a heartbeat.

pub(crate) mod backoff;
pub(crate) mod bell;
pub(crate) mod door;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod hello;
pub(crate) mod link;
pub(crate) mod links;
mod outbox;
#[doc(hidden)]
pub mod probe;
pub(crate) mod stream;
pub(crate) mod transport;

pub use bell::Bell;
pub use hello::{ADDRESS_BYTES_MAX, LocalNode, NAME_BYTES_MAX, Runs, Standing};

#[cfg(test)]
pub(crate) mod tests;
