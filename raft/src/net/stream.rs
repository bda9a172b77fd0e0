//! The one type through which every byte from and to a peer passes.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pickbox_raft_core::ids::Fingerprint;
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
#[derive(Debug)]
pub(crate) struct Stream(Secured<TcpStream>);

impl Stream {
    /// Begins to connect; writable when done, see [`Stream::connected`].
    pub(crate) fn connect(to: SocketAddr, tls: ClientConnection) -> io::Result<Self> {
        Ok(Self(Secured::new(TcpStream::connect(to)?, tls)))
    }

    /// Takes an accepted connection and prepares it.
    pub(crate) fn accepted(socket: TcpStream, tls: ServerConnection) -> io::Result<Self> {
        let stream = Self(Secured::new(socket, tls));
        stream.prepare()?;
        Ok(stream)
    }

    /// Whether a connection begun has succeeded; `None`: not yet.
    pub(crate) fn connected(&self) -> io::Result<Option<()>> {
        if let Some(error) = self.0.socket.take_error()? {
            return Err(error);
        }
        match self.0.socket.peer_addr() {
            Ok(_) => self.prepare().map(Some),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether both ends are the same socket: a dial to a free local port can meet itself.
    pub(crate) fn is_own_echo(&self) -> bool {
        let socket = &self.0.socket;
        matches!((socket.local_addr(), socket.peer_addr()), (Ok(a), Ok(b)) if a == b)
    }

    /// Data that stays unacknowledged so long ends the connection: the peer's host is gone, or
    /// reads no more.
    pub(crate) fn set_patience(&self, patience_ms: u32) -> io::Result<()> {
        Ok(sockopt::set_tcp_user_timeout(&self.0.socket, patience_ms)?)
    }

    fn prepare(&self) -> io::Result<()> {
        let socket = &self.0.socket;
        socket.set_nodelay(true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
        sockopt::set_socket_keepalive(socket, true)?;
        Ok(())
    }

    /// Goes on with the handshake; whether it is done.
    pub(crate) fn shake_hands(&mut self) -> io::Result<bool> {
        self.0.shake_hands()
    }

    /// The key that the peer has proved to have, once hands are shaken.
    pub(crate) fn peer_key(&self) -> Option<Fingerprint> {
        self.0.peer_key()
    }

    /// What both sides have agreed to speak, once hands are shaken.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.0.protocol()
    }

    /// What only the two ends of this connection know, once hands are shaken.
    pub(crate) fn exporter(&self) -> Option<[u8; 32]> {
        self.0.exporter()
    }

    /// Reads into the spare capacity of `buffer`. `Ok(0)`: the peer has closed.
    pub(crate) fn read_into(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_into(buffer)
    }

    /// Writes once, as much as is taken; see [`Stream::is_owing`].
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    /// Whether something that was taken has not gone out yet.
    pub(crate) fn is_owing(&self) -> bool {
        self.0.is_owing()
    }

    /// Writes what was taken and has not gone out.
    pub(crate) fn push(&mut self) -> io::Result<()> {
        self.0.push()
    }

    /// Watches it for reading and writing.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.0.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Takes it off a poll, to be watched by another.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.socket.deregister(registry)
    }
}
