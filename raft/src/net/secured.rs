//! A connection under TLS, over any socket that reads and writes.

use std::io::{self, BufRead as _, ErrorKind, IoSlice, Read, Write};

use pickbox_raft_core::ids::Fingerprint;
use rustls::Connection;

use super::tls;

/// Bytes of ciphertext that are read at once: rustls itself asks for 4 KiB a time.
const READ_BYTES: usize = 32 * 1024;
/// Bytes of plaintext that one write takes.
const WRITE_BYTES: usize = 256 * 1024;
/// What a proof on this connection is bound to (RFC 8446, section 7.5).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-pickbox-join";

/// A socket and its TLS.
///
/// All bytes go through [`Secured::read_into`] and [`Secured::write_vectored`]. What was encrypted
/// and not yet taken by the kernel is kept here, at most one write of it: see
/// [`Secured::is_owing`].
#[derive(Debug)]
pub(crate) struct Secured<S> {
    pub(crate) socket: S,
    tls: Box<Connection>,
    /// Ciphertext that has been read, in its first `read` bytes; `taken` of them are used up.
    staged: Vec<u8>,
    read: usize,
    taken: usize,
}

impl<S: Read + Write> Secured<S> {
    pub(crate) fn new(socket: S, tls: impl Into<Connection>) -> Self {
        let mut tls = Box::new(tls.into());
        tls.set_buffer_limit(Some(WRITE_BYTES));
        Self { socket, tls, staged: vec![0; READ_BYTES], read: 0, taken: 0 }
    }

    /// Goes on with the handshake as far as the socket allows; whether it is done.
    ///
    /// # Errors
    /// Anything but `WouldBlock`: the connection is of no use.
    pub(crate) fn shake_hands(&mut self) -> io::Result<bool> {
        loop {
            match self.push() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            }
            if !self.tls.is_handshaking() {
                return Ok(true);
            }
            match self.pull() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                other => drop(other?),
            }
        }
    }

    /// The key that the other side has proved to have, once hands are shaken.
    pub(crate) fn peer_key(&self) -> Option<Fingerprint> {
        tls::shown(self.tls.peer_certificates())
    }

    /// What both sides have agreed to speak.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// 32 bytes that both ends of this connection know and nobody else.
    pub(crate) fn exporter(&self) -> Option<[u8; 32]> {
        self.tls.export_keying_material([0; 32], EXPORTER_LABEL, None).ok()
    }

    /// Reads into the spare capacity of `buffer`. `Ok(0)`: the peer has closed.
    ///
    /// # Errors
    /// `WouldBlock` when nothing more has arrived.
    pub(crate) fn read_into(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "a read needs room");
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok(bytes) => {
                    let bytes = bytes.get(..room).unwrap_or(bytes);
                    buffer.extend_from_slice(bytes);
                    let count = bytes.len();
                    reader.consume(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Closed without a word of it: frames tell whether something is missing.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            self.pull()?;
        }
    }

    /// Encrypts and writes; how many bytes were taken. They may not have gone out yet.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel has not even taken what was encrypted before.
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.push()?;
        let taken = self.tls.writer().write_vectored(slices)?;
        match self.push() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Whether something encrypted waits for the kernel.
    pub(crate) fn is_owing(&self) -> bool {
        self.tls.wants_write()
    }

    /// Writes what was encrypted and has not gone out.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel does not take all of it.
    pub(crate) fn push(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Reads ciphertext and deciphers it; how many bytes of it. Zero: the peer has closed.
    fn pull(&mut self) -> io::Result<usize> {
        if self.taken == self.read {
            self.taken = 0;
            self.read = 0;
            self.read = loop {
                match self.socket.read(&mut self.staged) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
        }
        // At the end of the stream rustls must read nothing once, to learn of it.
        let mut rest = self.staged.get(self.taken..self.read).unwrap_or_default();
        let count = self.tls.read_tls(&mut rest)?;
        self.taken += count;
        if let Err(error) = self.tls.process_new_packets() {
            // The alert says why, if it can still be said.
            let _ = self.push();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }
}
