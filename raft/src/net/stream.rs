//! The one type through which every byte from and to a peer passes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt;
use rustls::{ClientConnection, ServerConnection};

use super::secured::Secured;

/// After so much silence the kernel asks whether the peer's host is still there,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
/// again after so much more,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// and ends the connection after so many questions without an answer: 5 s in all.
const KEEPALIVE_COUNT: u32 = 2;

/// A non-blocking connection to a peer, under TLS.
pub(crate) type Stream = Secured<TcpStream>;

impl Stream {
    /// Begins to connect; writable when done, see [`Stream::connected`].
    pub(crate) fn connect(to: SocketAddr, tls: ClientConnection) -> io::Result<Self> {
        Ok(Self::new(TcpStream::connect(to)?, tls))
    }

    /// Takes an accepted connection and prepares it.
    pub(crate) fn accepted(socket: TcpStream, tls: ServerConnection) -> io::Result<Self> {
        let stream = Self::new(socket, tls);
        stream.prepare()?;
        Ok(stream)
    }

    /// Whether a connection begun has succeeded; `None`: not yet.
    pub(crate) fn connected(&self) -> io::Result<Option<()>> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => self.prepare().map(Some),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether both ends are the same socket: a dial to a free local port can meet itself.
    pub(crate) fn is_own_echo(&self) -> bool {
        let socket = &self.socket;
        matches!((socket.local_addr(), socket.peer_addr()), (Ok(a), Ok(b)) if a == b)
    }

    /// Data that stays unacknowledged so long ends the connection: the peer's host is gone, or
    /// reads no more.
    pub(crate) fn set_patience(&self, patience_ms: u32) -> io::Result<()> {
        Ok(sockopt::set_tcp_user_timeout(&self.socket, patience_ms)?)
    }

    fn prepare(&self) -> io::Result<()> {
        let socket = &self.socket;
        socket.set_nodelay(true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
        sockopt::set_socket_keepalive(socket, true)?;
        Ok(())
    }

    /// Watches it for reading and writing.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Takes it off a poll, to be watched by another.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}
