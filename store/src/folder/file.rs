//! An open regular file: what is done to it is done to this inode, whatever its name has become.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::Handle;
use super::stat::Stat;
use crate::lease::Lease;

/// An open regular file.
#[derive(Debug)]
pub struct File {
    pub(super) handle: Handle,
}

impl File {
    /// Looks at it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn stat(&self) -> Result<Stat, Errno> {
        self.handle.stat()
    }

    /// Reads some bytes from `offset` on; 0 is the end of the file.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.handle.read_at(buffer, offset) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Fills the buffer.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; when the disk fails.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.read_some_at(buffer, offset)? {
            read if read == buffer.len() => Ok(()),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// All bytes from the start, up to so many.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read_up_to(&self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; bytes_max];
        let read = self.read_some_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Fills the buffer as far as there are bytes.
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut at, mut read) = (offset, 0);
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, at)? {
                0 => break,
                count => (at, read) = (at + u64::try_from(count).unwrap_or(0), read + count),
            }
        }
        Ok(read)
    }

    /// Writes some of the bytes; how many.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(self.handle.write_at(bytes, offset)?)
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// When the disk is full or fails; some may have been written then.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.handle.write_at(bytes, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset += u64::try_from(count).unwrap_or(0);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Waits until its bytes are on disk.
    ///
    /// # Errors
    /// When they are not: nothing may be believed about it then.
    pub fn sync_data(&self) -> io::Result<()> {
        Ok(self.handle.sync_data()?)
    }

    /// As [`Self::sync_data`]; mode and times too.
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(self.handle.sync()?)
    }

    /// Makes it so many bytes long, with room on the disk for all of them.
    ///
    /// # Errors
    /// `NOSPC`; `OPNOTSUPP` where room cannot be made ahead.
    pub fn reserve(&self, bytes: u64) -> Result<(), Errno> {
        self.handle.reserve(bytes)
    }

    /// Has the kernel begin to write these bytes to the disk.
    pub fn write_behind(&self, offset: u64, bytes: u64) {
        self.handle.write_behind(offset, bytes);
    }

    /// Makes it share the blocks of `source`; whether the file system can.
    #[must_use]
    pub fn clone_from(&self, source: &Self) -> bool {
        self.handle.clone_from(&source.handle).is_ok()
    }

    /// Whether somebody has it open for writing; it must have been opened for reading.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.handle.lease()
    }
}
