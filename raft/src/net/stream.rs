//! The one type through which every byte from and to a peer passes: the place where encryption
//! will go.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt;

/// After so much silence the kernel asks whether the peer's host is still there,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
/// again after so much more,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// and ends the connection after so many questions without an answer: 5 s in all.
const KEEPALIVE_COUNT: u32 = 2;

/// A non-blocking connection to a peer.
#[derive(Debug)]
pub(crate) struct Stream(mio::net::TcpStream);

impl Stream {
    /// Begins to connect; writable when done, see [`Stream::connected`].
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        mio::net::TcpStream::connect(to).map(Self)
    }

    /// Takes an accepted connection and prepares it.
    pub(crate) fn accepted(socket: mio::net::TcpStream) -> io::Result<Self> {
        let stream = Self(socket);
        stream.prepare()?;
        Ok(stream)
    }

    /// Whether a connection begun has succeeded; `None`: not yet.
    pub(crate) fn connected(&self) -> io::Result<Option<()>> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => self.prepare().map(Some),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether both ends are the same socket: a dial to a free local port can meet itself.
    pub(crate) fn is_own_echo(&self) -> bool {
        matches!((self.0.local_addr(), self.0.peer_addr()), (Ok(a), Ok(b)) if a == b)
    }

    /// Data that stays unacknowledged so long ends the connection: the peer's host is gone, or
    /// reads no more.
    pub(crate) fn set_patience(&self, patience_ms: u32) -> io::Result<()> {
        Ok(sockopt::set_tcp_user_timeout(&self.0, patience_ms)?)
    }

    fn prepare(&self) -> io::Result<()> {
        self.0.set_nodelay(true)?;
        sockopt::set_tcp_keepidle(&self.0, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&self.0, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&self.0, KEEPALIVE_COUNT)?;
        sockopt::set_socket_keepalive(&self.0, true)?;
        Ok(())
    }

    /// Reads once into the spare capacity of `buffer`. `Ok(0)`: the peer has closed.
    pub(crate) fn read_into(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        assert!(buffer.capacity() > buffer.len(), "a read needs room");
        loop {
            match rustix::io::read(&self.0, rustix::buffer::spare_capacity(buffer)) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Writes once.
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.0.write_vectored(slices) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Watches it for reading and writing.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.0.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Takes it off a poll, to be watched by another.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }
}
