//! What may go wrong at the folder, sorted by what the caller does about it.

use std::fmt;

use rustix::io::Errno;

use crate::name::RelPath;

/// One variant for each decision of the caller; the path is relative to the [`super::Folder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderError {
    /// Nothing has that name: the user moved or deleted it. Back to reconcile.
    Absent(RelPath),
    /// A parent is no directory (any more), or a symlink stands in its place. Never followed.
    NotDirectory(RelPath),
    /// The name is taken: the user was first.
    Exists(RelPath),
    /// A directory still holds entries.
    NotEmpty(RelPath),
    /// It is of another kind than was asked for: a directory instead of a file, a pipe, a symlink.
    WrongKind(RelPath),
    /// It changed under every one of a few readings: somebody is writing.
    Unstable(RelPath),
    /// The disk or the quota is full. Clears by itself some day.
    NoSpace(RelPath),
    /// This one path cannot be worked on now (rights, read-only, mount point, immutable, busy,
    /// a name this file system cannot hold); the rest can.
    Blocked {
        /// Where.
        path: RelPath,
        /// What the kernel said.
        errno: Errno,
    },
    /// The disk is broken, descriptors ran out, or the kernel lacks something.
    Other {
        /// Where.
        path: RelPath,
        /// What the kernel said.
        errno: Errno,
    },
}

impl FolderError {
    /// Sorts what the kernel said about `path`.
    #[must_use]
    pub fn from_errno(path: RelPath, errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Absent(path),
            Errno::NOTDIR | Errno::LOOP => Self::NotDirectory(path),
            Errno::EXIST => Self::Exists(path),
            Errno::NOTEMPTY => Self::NotEmpty(path),
            Errno::ISDIR => Self::WrongKind(path),
            // A writer holds a lease, or the path moved while it was walked (openat2(2)).
            Errno::AGAIN => Self::Unstable(path),
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace(path),
            Errno::ACCESS
            | Errno::PERM
            | Errno::BUSY
            | Errno::ROFS
            | Errno::XDEV
            | Errno::TXTBSY
            | Errno::NAMETOOLONG
            | Errno::ILSEQ
            | Errno::MLINK
            | Errno::FBIG => Self::Blocked { path, errno },
            _ => Self::Other { path, errno },
        }
    }

    /// Where it happened, relative to the folder.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Absent(path)
            | Self::NotDirectory(path)
            | Self::Exists(path)
            | Self::NotEmpty(path)
            | Self::WrongKind(path)
            | Self::Unstable(path)
            | Self::NoSpace(path)
            | Self::Blocked { path, .. }
            | Self::Other { path, .. } => path,
        }
    }

    /// What the kernel said, or would say.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Absent(_) => Errno::NOENT,
            Self::NotDirectory(_) => Errno::NOTDIR,
            Self::Exists(_) => Errno::EXIST,
            Self::NotEmpty(_) => Errno::NOTEMPTY,
            Self::WrongKind(_) => Errno::ISDIR,
            Self::Unstable(_) => Errno::AGAIN,
            Self::NoSpace(_) => Errno::NOSPC,
            Self::Blocked { errno, .. } | Self::Other { errno, .. } => *errno,
        }
    }
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        match self {
            Self::Absent(_) => write!(f, "nothing is at '{path}'"),
            Self::NotDirectory(_) => write!(f, "a parent of '{path}' is no directory"),
            Self::Exists(_) => write!(f, "something is at '{path}' already"),
            Self::NotEmpty(_) => write!(f, "the directory '{path}' is not empty"),
            Self::WrongKind(_) => write!(f, "'{path}' is of another kind than expected"),
            Self::Unstable(_) => write!(f, "'{path}' changes while it is read"),
            Self::NoSpace(_) => write!(f, "no space left for '{path}'"),
            Self::Blocked { errno: Errno::PERM, .. } => write!(
                f,
                "'{path}' cannot be worked on: {}: immutable, or not this daemon's to change",
                Errno::PERM
            ),
            Self::Blocked { errno, .. } => write!(f, "'{path}' cannot be worked on: {errno}"),
            Self::Other { errno, .. } => write!(f, "'{path}': {errno}"),
        }
    }
}

impl std::error::Error for FolderError {}
