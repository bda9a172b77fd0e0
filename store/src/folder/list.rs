//! Listing a directory page by page: a directory of a million names must not stop the thread.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, RawDir};
use rustix::io::Errno;

use super::{Dir, FolderError, Kind, OPEN_DIRECTORY, Result};
use crate::name::{Name, RelPath};

/// Bytes that one `getdents64(2)` may fill: about a thousand entries.
const PAGE_BYTES: usize = 32 * 1024;

/// One entry as the directory tells it, without a look at the inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// What it is, where the file system says so; a mount point shows what it covers.
    pub kind: Option<Kind>,
    /// The inode number.
    pub ino: u64,
}

/// The entries of a directory, unordered. What is there all the time is listed; what comes, goes
/// or is renamed meanwhile may be or not (readdir(3p)): watch before listing.
#[derive(Debug)]
pub struct Listing {
    fd: OwnedFd,
    path: RelPath,
    page: VecDeque<Listed>,
    buffer: Vec<MaybeUninit<u8>>,
    /// Entries left out because their names are none: foreign file systems only.
    skipped_count: u64,
}

impl Dir {
    /// Starts a listing, with an offset of its own.
    ///
    /// # Errors
    /// When the directory may not be read.
    pub fn list(&self) -> Result<Listing> {
        let fd = rustix::fs::openat(&self.fd, c".", OPEN_DIRECTORY, Mode::empty())
            .map_err(|errno| FolderError::from_errno(self.path.clone(), errno))?;
        let buffer = vec![MaybeUninit::uninit(); PAGE_BYTES];
        let path = self.path.clone();
        Ok(Listing { fd, path, page: VecDeque::new(), buffer, skipped_count: 0 })
    }
}

impl Listing {
    /// Entries left out so far because their names exceed what Linux allows.
    #[must_use]
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }

    /// Reads until entries are there or the directory ends.
    fn fill(&mut self) -> std::result::Result<(), Errno> {
        let mut raw = RawDir::new(&self.fd, &mut self.buffer);
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            match Name::new(bytes) {
                _ if matches!(bytes, b"." | b"..") => {}
                Err(_) => self.skipped_count = self.skipped_count.saturating_add(1),
                Ok(name) => {
                    let kind = Kind::of(entry.file_type());
                    self.page.push_back(Listed { name, kind, ino: entry.ino() });
                }
            }
            // Only a page that held nothing but dots is followed by the next at once.
            if raw.is_buffer_empty() && !self.page.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

impl Iterator for Listing {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && let Err(errno) = self.fill()
        {
            return Some(Err(FolderError::from_errno(self.path.clone(), errno)));
        }
        self.page.pop_front().map(Ok)
    }
}
