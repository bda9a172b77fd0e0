//! Listing a directory page by page: a directory of a million names must not stop the thread.

use std::collections::VecDeque;

use super::{Dir, Entries, FolderError, Kind, Result};
use crate::name::{Name, RelPath};

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
    entries: Entries,
    path: RelPath,
    page: VecDeque<Listed>,
    /// Entries left out because their names are none: foreign file systems only.
    skipped_count: u64,
}

impl Dir {
    /// Starts a listing, with an offset of its own.
    ///
    /// # Errors
    /// When the directory may not be read.
    pub fn list(&self) -> Result<Listing> {
        let path = self.path.clone();
        match self.handle.entries() {
            Ok(entries) => Ok(Listing { entries, path, page: VecDeque::new(), skipped_count: 0 }),
            Err(errno) => Err(FolderError::from_errno(path, errno)),
        }
    }
}

impl Listing {
    /// Entries left out so far because their names exceed what Linux allows.
    #[must_use]
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }
}

impl Iterator for Listing {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() {
            match self.entries.fill(&mut self.page) {
                Ok(skipped) => self.skipped_count = self.skipped_count.saturating_add(skipped),
                Err(errno) => {
                    return Some(Err(FolderError::from_errno(self.path.clone(), errno)));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}
