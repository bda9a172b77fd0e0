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

    /// Writes all of the bytes; whole pages of zeros become holes, where the file system can.
    ///
    /// # Errors
    /// As [`Self::write_all_at`].
    pub fn write_sparse_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let run = next_run(rest, at);
            let (now, later) = rest.split_at(run.bytes.min(rest.len()));
            let length = u64::try_from(now.len()).unwrap_or(0);
            if run.filling == Filling::Bytes || self.handle.punch_hole(at, length).is_err() {
                self.write_all_at(now, at)?;
            }
            (rest, at) = (later, at + length);
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

/// What file systems give out room by.
const PAGE_BYTES: usize = 4096;

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filling {
    /// Whole pages of zeros.
    Zeros,
    Bytes,
}

/// Bytes from the start that are to be treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    filling: Filling,
    bytes: usize,
}

/// The first run of what is to be written at `offset`; at least one byte of it.
fn next_run(bytes: &[u8], offset: u64) -> Run {
    let into = usize::try_from(offset).map_or(1, |offset| offset % PAGE_BYTES);
    if into > 0 {
        return Run { filling: Filling::Bytes, bytes: bytes.len().min(PAGE_BYTES - into) };
    }
    let filling = |page: &[u8]| {
        let is_hole = page.len() == PAGE_BYTES && page == [0; PAGE_BYTES];
        if is_hole { Filling::Zeros } else { Filling::Bytes }
    };
    let mut pages = bytes.chunks(PAGE_BYTES);
    let first = pages.next().unwrap_or_default();
    let kind = filling(first);
    let more = pages.take_while(|page| filling(page) == kind).map(<[u8]>::len);
    Run { filling: kind, bytes: first.len() + more.sum::<usize>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_whole_pages_of_the_file() {
        let run = |filling, bytes| Run { filling, bytes };
        let (zeros, page) = (vec![0; 3 * PAGE_BYTES], PAGE_BYTES);
        assert_eq!(next_run(&zeros, 0), run(Filling::Zeros, 3 * page));
        assert_eq!(next_run(&zeros, 8192), run(Filling::Zeros, 3 * page));
        assert_eq!(next_run(&zeros, 100), run(Filling::Bytes, page - 100), "up to the next page");
        assert_eq!(next_run(&zeros[..page - 1], 0), run(Filling::Bytes, page - 1));
        let mut mixed = zeros;
        mixed[2 * page] = 1;
        assert_eq!(next_run(&mixed, 0), run(Filling::Zeros, 2 * page));
        mixed[0] = 1;
        assert_eq!(next_run(&mixed, 0), run(Filling::Bytes, page));
        assert_eq!(next_run(&[7], 0), run(Filling::Bytes, 1));
    }
}
