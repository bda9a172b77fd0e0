//! Who is at the other end of a local connection.
//!
//! TCP says nothing of users, but the kernel knows whose each socket is: for a connection of this
//! host it is asked for the *other* socket, which is found by the whole pair of addresses, since a
//! port alone may belong to several (`sock_diag(7)`; where that is not to be had `/proc/net/tcp`, see
//! proc(5)).
//!
//! What may mislead, and does not:
//!
//! - A socket that its process has closed already belongs to nobody, and the kernel calls that uid
//!   0. So a uid counts only together with an inode: anybody may connect, send and close before the
//!   connection is accepted.
//! - The kernel offers a listening socket at the same port if there is no such connection: an
//!   answer counts only with the same pair of addresses.
//! - Another process may connect from the same port once the first one has reset its connection.
//!   So the connection is looked at again after the lookup ([`peer_of`]): while it lasts, its pair of
//!   addresses is nobody else's.
//!
//! Only connections over the loopback device in this network namespace are looked at. Who forwards a
//! port into it (a proxy of containers, `ssh -L`) is the user that all its clients are taken for.
//! In a user namespace, users that have no number there look like the overflow uid, mostly 65534.

mod diag;
mod table;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{getpeername, getsockname};
pub use rustix::process::Uid;

/// Two ends of a TCP connection as the wanted socket sees them, v4-mapped addresses as v4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    /// Where the wanted socket is.
    source: SocketAddr,
    /// Where it is connected to.
    destination: SocketAddr,
}

impl Ends {
    fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let plain =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { source: plain(source), destination: plain(destination) }
    }

    fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    fn are_local(self) -> bool {
        let same = self.source.is_ipv4() == self.destination.is_ipv4();
        same && [self.source, self.destination].iter().all(|end| end.ip().is_loopback())
    }
}

/// What the kernel tells of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    ends: Ends,
    /// As in the kernel's `net/tcp_states.h`.
    state: u8,
    uid: u32,
    /// 0: no process has it any more.
    inode: u64,
}

impl Socket {
    /// The user that it belongs to, if it is a connection and somebody's.
    fn owner(self) -> Option<Uid> {
        // ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING. In SYN_SENT it would be
        // another connection than the one that was accepted.
        const CONNECTED: [u8; 6] = [1, 4, 5, 8, 9, 11];
        let counts = CONNECTED.contains(&self.state) && self.inode != 0 && self.uid != u32::MAX;
        counts.then(|| Uid::from_raw(self.uid))
    }
}

/// The user whose socket is at the other end of an accepted connection: asked once, when it was
/// accepted, before anything is read from it. `None`: it is not local, or the client has closed its
/// socket already, or the connection is over.
///
/// # Errors
/// When neither netlink nor `/proc/net/tcp` can be asked: nothing is known then, and nothing may be
/// granted.
pub fn peer_of(stream: impl AsFd) -> io::Result<Option<Uid>> {
    peer_by(&stream, owner_of)
}

/// [`peer_of`], by this way of asking for the owner of the socket that is connected to the first
/// address from the second.
fn peer_by(
    stream: &impl AsFd,
    ask: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<Option<Uid>>,
) -> io::Result<Option<Uid>> {
    let Some(peer) = connected_to(stream)? else { return Ok(None) };
    let owner = ask(SocketAddr::try_from(getsockname(stream)?)?, peer)?;
    // While this connection lasts no other has the same pair of addresses.
    let lasts = connected_to(stream)? == Some(peer);
    Ok(owner.filter(|_| lasts))
}

/// Where a TCP socket is connected to; `None` once the connection is over.
fn connected_to(stream: &impl AsFd) -> io::Result<Option<SocketAddr>> {
    match getpeername(stream) {
        Ok(peer) => Ok(peer.map(SocketAddr::try_from).transpose()?),
        Err(Errno::NOTCONN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The user whose socket is connected from `peer` to `local`, an address of this host: what
/// [`peer_of`] asks. Who uses it looks afterwards whether the connection is still there.
///
/// # Errors
/// As [`peer_of`].
pub fn owner_of(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Uid>> {
    let wanted = Ends::new(peer, local);
    if !wanted.are_local() {
        return Ok(None);
    }
    Ok(find(wanted)?.and_then(Socket::owner))
}

fn find(wanted: Ends) -> io::Result<Option<Socket>> {
    match diag::find(wanted) {
        Ok(Some(socket)) => return Ok(Some(socket)),
        // It looks the same whether there is no such socket, or the kernel has no module to answer:
        // our own end is there in any case.
        Ok(None) if diag::find(wanted.reversed())?.is_some() => return Ok(None),
        Ok(None) => {}
        Err(error) => log::debug!("credentials=sock_diag error={error}"),
    }
    table::find(wanted)
}

/// Whether this user may do whatever this process can do: it runs it, or is root.
#[must_use]
pub fn is_self_or_root(uid: Uid) -> bool {
    uid.is_root() || uid == rustix::process::geteuid()
}

#[cfg(test)]
mod tests;
