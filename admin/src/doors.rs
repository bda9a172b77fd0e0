//! Where clients come in: addresses of TCP, and a unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use pickbox_raft::credentials;

use crate::authority::Caller;
use crate::connection::Visitor;
use crate::people::People;
use crate::socket_file::SocketFile;
use crate::stream::{Origin, Stream};

/// Tokens of the listeners, from this one on.
pub(crate) const DOOR_FIRST: usize = 1;
/// Most listeners.
pub(crate) const DOORS_MAX: usize = 8;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Why the server cannot start or go on.
#[derive(Debug)]
pub enum AdminError {
    /// The address cannot be listened on.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The unix socket cannot be made.
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than this host reach the address, and no token keeps them out.
    Open {
        /// Which.
        address: SocketAddr,
    },
    /// There are too many addresses, or none.
    Count,
    /// The kernel's event queue failed.
    Poll(io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Socket { path, .. } => {
                write!(f, "cannot listen on the admin socket {}", path.display())
            }
            Self::Open { address } => {
                write!(f, "{address} can be reached from other hosts, which needs a token")
            }
            Self::Count => write!(f, "the admin protocol needs 1 to {} addresses", DOORS_MAX - 1),
            Self::Poll(_) => f.write_str("the event queue failed"),
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Socket { source, .. } | Self::Poll(source) => {
                Some(source)
            }
            Self::Open { .. } | Self::Count => None,
        }
    }
}

/// One listener.
#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix(SocketFile),
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Doors {
    all: Vec<Door>,
    addresses: Vec<SocketAddr>,
}

impl Doors {
    /// Listens on `addresses` (port 0: any free one) and at `socket`, whose group becomes `group`, if that
    /// is there.
    pub(crate) fn open(
        addresses: &[SocketAddr],
        socket: Option<PathBuf>,
        group: Option<&str>,
    ) -> Result<Self, AdminError> {
        if !(1..DOORS_MAX).contains(&addresses.len()) {
            return Err(AdminError::Count);
        }
        let mut doors = Self { all: Vec::new(), addresses: Vec::new() };
        for &address in addresses {
            let (listener, local) =
                listen(address).map_err(|source| AdminError::Bind { address, source })?;
            doors.all.push(Door::Tcp(listener));
            doors.addresses.push(local);
        }
        if let Some(path) = socket {
            let made = SocketFile::listen(path.clone(), group, BACKLOG);
            doors.all.push(Door::Unix(made.map_err(|source| AdminError::Socket { path, source })?));
        }
        Ok(doors)
    }

    /// The addresses of TCP.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has the kernel tell who comes.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (number, door) in self.all.iter_mut().enumerate() {
            let token = Token(DOOR_FIRST + number);
            match door {
                Door::Tcp(listener) => registry.register(listener, token, Interest::READABLE)?,
                Door::Unix(file) => {
                    registry.register(file.listener(), token, Interest::READABLE)?;
                }
            }
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The next client at one of them, and who it is: found out now, before anything of it is read.
    pub(crate) fn accept(
        &self,
        number: usize,
        people: &mut People,
        now: Instant,
    ) -> io::Result<(Stream, Visitor)> {
        match self.all.get(number) {
            Some(Door::Tcp(listener)) => {
                let (stream, from) = listener.accept()?;
                let visitor = Visitor {
                    caller: tcp_caller(&stream, from, people, now),
                    origin: Origin::Tcp(from),
                };
                Ok((Stream::Tcp(stream), visitor))
            }
            Some(Door::Unix(file)) => {
                let stream = file.accept()?;
                let who = rustix::net::sockopt::socket_peercred(&stream);
                let caller = who.map_or(Caller::Untold, |who| people.caller(who.uid, now));
                Ok((Stream::Unix(stream), Visitor { caller, origin: Origin::Unix }))
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    // mio's own backlog of 128 makes a crowd of clients wait a second to connect.
    rustix::net::listen(&listener, BACKLOG)?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

fn tcp_caller(
    stream: &mio::net::TcpStream,
    from: SocketAddr,
    people: &mut People,
    now: Instant,
) -> Caller {
    if !from.ip().to_canonical().is_loopback() {
        return Caller::Remote;
    }
    match credentials::peer_of(stream) {
        Ok(Some(uid)) => people.caller(uid, now),
        Ok(None) => Caller::Gone,
        Err(error) => {
            log::debug!("admin=credentials error={error}");
            Caller::Untold
        }
    }
}
