//! The one door to the user's folder, and to staging, quarantine and history beside it.
//!
//! Everything is named relative to the descriptor of an open directory and resolved with
//! `openat2(RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV)`: nothing that a user or a
//! peer puts into a path or plants on disk leads out of the folder (traps T17, T27). Nothing here
//! follows a symlink, waits for a lock, or decides anything; every answer is a fresh look.

mod accounts;
mod attach;
#[cfg(test)]
mod conformance;
#[cfg(any(test, feature = "simulated"))]
mod either;
mod error;
mod file;
mod inherit;
mod kernel;
mod list;
mod mark;
mod medium;
mod read;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod space;
mod stat;
#[cfg(test)]
mod tests;
mod write;
mod xattrs;

use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(any(test, feature = "simulated"))]
use either::{Entries, Handle};
#[cfg(not(any(test, feature = "simulated")))]
use kernel::{Entries, Handle};

pub use accounts::{Accounts, NameService, Of, OwnNameService};
pub use error::FolderError;
pub use file::File;
pub use inherit::Inherited;
use kernel::For;
pub use list::{Listed, Listing};
pub use medium::{Quiet, medium};
pub use read::READ_TRIES_MAX;
use rustix::io::Errno;
pub use space::{Space, free_bytes};
pub use stat::{Kind, Stat};
pub use write::{NewFile, Properties};
pub use xattrs::UserAttributes;

use crate::name::{DEPTH_MAX, Name, RelPath};

type Result<T> = std::result::Result<T, FolderError>;

/// A directory tree held by the descriptor of its root: it stays the same one when its own path
/// is renamed or mounted over.
#[derive(Debug)]
pub struct Folder {
    root: Dir,
    stat: Stat,
    /// The operator's path, if it was opened by one.
    at: Option<PathBuf>,
}

/// What the path of a folder leads to by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// The very directory that is open.
    Here,
    /// Nothing, or what cannot be looked at.
    Absent,
    /// Another directory.
    Other,
    /// The same one by its inode, birth and mark, of another mount: it was unmounted and mounted
    /// anew, and what is open here belongs to the former one.
    Remounted,
}

impl Folder {
    /// Opens the directory at `path`. Symlinks on the way to it are the operator's choice.
    ///
    /// # Errors
    /// When it is absent, no directory, or may not be read.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = Handle::open(path);
        let opened = opened.map_err(|errno| FolderError::from_errno(RelPath::root(), errno))?;
        Ok(Self { at: Some(path.to_owned()), ..Self::over(opened)? })
    }

    /// Looks where the folder's path leads now. An open folder stays what it is when it is renamed,
    /// unmounted (lazily) or mounted over, and nobody else sees it any more (trap T20).
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        let Some(path) = &self.at else { return Whereabouts::Here };
        let Ok(found) = Handle::look(path).and_then(Self::of) else { return Whereabouts::Absent };
        if (found.stat.dev, found.stat.ino) == (self.stat.dev, self.stat.ino) {
            return Whereabouts::Here;
        }
        let mark = self.root.mark();
        let same = found.stat.same_inode(&self.stat) && found.root.mark() == mark;
        // Where a sandbox knows the former mount only, it is as good as another one.
        if same && mark.is_some() && Self::open(path).is_ok() {
            Whereabouts::Remounted
        } else {
            Whereabouts::Other
        }
    }

    fn over(handle: Handle) -> Result<Self> {
        Self::of(handle).map_err(|errno| FolderError::from_errno(RelPath::root(), errno))
    }

    fn of(handle: Handle) -> rustix::io::Result<Self> {
        let stat = handle.stat()?;
        Ok(Self { root: Dir { handle, path: RelPath::root() }, stat, at: None })
    }

    /// The root as it was when it was opened: (`dev`, `ino`, `btime`) tell it from a copy.
    #[must_use]
    pub fn identity(&self) -> &Stat {
        &self.stat
    }

    /// Another handle on the same folder, whatever stands at its path by now.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn reopen(&self) -> Result<Self> {
        Ok(Self { root: self.root.reopen()?, stat: self.stat, at: self.at.clone() })
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Whether `dir` is this folder's root or lies below it, by whatever path either was opened:
    /// what holds it is followed upwards.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn holds(&self, dir: &Dir) -> Result<bool> {
        let mut at = dir.reopen()?;
        let mut stat = dir.stat_self()?;
        for _ in 0..DEPTH_MAX {
            if (stat.dev, stat.ino) == (self.stat.dev, self.stat.ino) {
                return Ok(true);
            }
            // Where it may not be looked, the folder cannot be: it is open.
            let Ok(handle) = at.handle.above() else { return Ok(false) };
            at = Dir { handle, path: RelPath::root() };
            let above = at.stat_self()?;
            if (above.dev, above.ino) == (stat.dev, stat.ino) {
                return Ok(false);
            }
            stat = above;
        }
        Ok(false)
    }

    /// Opens a directory below, walking from the root anew.
    ///
    /// # Errors
    /// `Absent`, `NotDirectory` (also when a symlink was planted on the way), `Blocked`.
    pub fn dir(&self, path: &RelPath) -> Result<Dir> {
        let bytes = path.checked().map_err(|_| refused(path.clone()))?;
        let bytes: &[u8] = if path.is_root() { b"." } else { bytes };
        let opened = self.root.handle.beneath(bytes, For::Walking);
        opened
            .map(|handle| Dir { handle, path: path.clone() })
            .map_err(|errno| FolderError::from_errno(path.clone(), errno))
    }
}

/// An open directory. It keeps pointing at the same directory when that is renamed; operations
/// name entries of it and never look at its path again.
#[derive(Debug)]
pub struct Dir {
    handle: Handle,
    /// Where it was when it was opened: for messages.
    path: RelPath,
}

impl Dir {
    /// Where it was when it was opened.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// A name for this very directory that calls taking only path text (`inotify_add_watch`)
    /// can be given: whatever its path has become meanwhile.
    #[must_use]
    pub fn proc_path(&self) -> String {
        self.handle.proc_path()
    }

    /// The time since 1970 by the clock that stamps what is done here.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.handle.wall()
    }

    /// Another handle on the same directory.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn reopen(&self) -> Result<Self> {
        let path = self.path.clone();
        match self.handle.duplicate() {
            Ok(handle) => Ok(Self { handle, path }),
            Err(errno) => Err(FolderError::Other { path, errno }),
        }
    }

    /// Looks at the directory itself.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn stat_self(&self) -> Result<Stat> {
        self.handle.stat().map_err(|errno| FolderError::from_errno(self.path.clone(), errno))
    }

    /// Looks at an entry; a symlink is looked at itself.
    ///
    /// # Errors
    /// `Absent` most of all.
    pub fn stat(&self, name: &Name) -> Result<Stat> {
        self.handle.stat_at(self.entry(name)?).map_err(|errno| self.error(name, errno))
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// As [`Folder::dir`].
    pub fn open_dir(&self, name: &Name) -> Result<Self> {
        let opened = self.open_entry(name, For::Walking);
        let handle = opened.map_err(|errno| self.error(name, errno))?;
        Ok(Self { handle, path: self.path.join(name) })
    }

    fn open_entry(&self, name: &Name, what: For) -> std::result::Result<Handle, Errno> {
        self.handle.beneath(name.checked().map_err(|_| NO_NAME)?, what)
    }

    /// A handle on exactly the inode that has a name now, for looking at it and for changing what
    /// is attached to it.
    fn pin(&self, name: &Name) -> std::result::Result<Handle, Errno> {
        self.open_entry(name, For::Looking)
    }

    /// The second gate: the bytes of a name on their way to the kernel. Names are checked where
    /// they are decoded; a call that takes one relative to a directory must never see another.
    fn entry<'n>(&self, name: &'n Name) -> Result<&'n [u8]> {
        name.checked().map_err(|_| refused(self.path.clone()))
    }

    fn error(&self, name: &Name, errno: Errno) -> FolderError {
        FolderError::from_errno(self.path.join(name), errno)
    }
}

/// What the door says to bytes that are no name.
const NO_NAME: Errno = Errno::ILSEQ;

fn refused(path: RelPath) -> FolderError {
    FolderError::Blocked { path, errno: NO_NAME }
}
