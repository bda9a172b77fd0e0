//! Peer transport: framed, versioned messages over TLS on non-blocking sockets.
//!
//! Each node listens at one address. A pair of members uses two connections for each purpose
//! (consensus, contents): the one who speaks dials. So who dials and who accepts never race, and
//! each direction has its own back-pressure. A connection begins with a handshake of TLS (`tls`), in
//! which both sides prove to have their keys, and a greeting (`hello`) that names the cluster, both
//! nodes and the purpose; what does not fit is refused by name, counted, and logged once in a while.
//!
//! The thread `gate` owns the listener and everybody whose key is not known to be a member's
//! ([`gate`]); the consensus thread has the connections of members (`transport`); content connections
//! go to the bulk thread ([`crate::bulk`]), so that no transfer delays a heartbeat.

pub(crate) mod admission;
pub(crate) mod backoff;
pub(crate) mod bell;
pub(crate) mod door;
pub(crate) mod frame;
pub mod gate;
pub(crate) mod hello;
pub(crate) mod join_request;
pub(crate) mod link;
pub(crate) mod links;
mod outbox;
#[doc(hidden)]
pub mod probe;
pub(crate) mod secured;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod trust;

pub use bell::Bell;
pub use hello::{ADDRESS_BYTES_MAX, LocalNode, NAME_BYTES_MAX, Runs, Standing};
pub use trust::Vouched;

#[cfg(test)]
pub(crate) mod tests;
