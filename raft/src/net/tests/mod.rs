//! The transport as its users see it: real sockets on loopback, ports chosen by the kernel.

mod bulk;
mod frames;
mod handshake;
pub(crate) mod rig;
mod security;
