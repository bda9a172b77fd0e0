//! The one door to our own files: everything that this crate keeps on a disk goes through [`Disk`].
//!
//! Paths are relative to the state directory, with `/` between parts, and never leave it. There
//! are two disks: [`RealDisk`] on a directory, and [`sim::SimDisk`] in memory, which can lose what
//! was not synced, tear writes, fill up, fail and rot, all from one seed.
//!
//! The contract is that of POSIX and no more: what was written is durable once
//! [`DiskFile::sync_data`] has returned, a name is durable once [`Disk::sync_dir`] on its
//! directory has returned, and a failed sync says nothing about what is on the disk.

use std::fmt;
use std::io::{self, IoSlice};

mod private;
mod real;
pub mod sim;

pub use real::{RealDisk, RealFile};

/// What was being done when a disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening the state directory or a file of it.
    Open,
    /// Creating a file or directory.
    Create,
    /// Listing a directory.
    List,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing a file or a directory.
    Sync,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Asking for a length or setting it.
    Length,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Length => "measure",
        })
    }
}

/// A disk operation that failed: what, where, why.
#[derive(Debug)]
pub struct DiskError {
    /// What was tried.
    pub operation: Operation,
    /// On which path.
    pub path: String,
    /// What the system answered.
    pub source: io::Error,
}

impl DiskError {
    /// Ties the system's answer to what was tried.
    #[must_use]
    pub fn new(operation: Operation, path: &str, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source }
    }

    /// Whether there was no space (or no quota) left, which may pass.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the path does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether another process holds the state directory.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.source.kind() == io::ErrorKind::WouldBlock
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {:?}: {}", self.operation, self.path, self.source)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What a disk operation gives.
pub type DiskResult<T> = Result<T, DiskError>;

/// The files of one state directory. The empty path is the state directory itself.
pub trait Disk {
    /// An open file.
    type File: DiskFile;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// When there is no such file, or the system says no.
    fn open(&self, path: &str) -> DiskResult<Self::File>;

    /// Creates a file of mode 0600 that must not exist yet (`O_EXCL`). Its name is durable only
    /// after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When it exists, when there is no space, or the system says no.
    fn create(&self, path: &str) -> DiskResult<Self::File>;

    /// Creates a directory of mode 0700; one that exists is fine.
    ///
    /// # Errors
    /// When there is no space, or the system says no.
    fn make_dir(&self, path: &str) -> DiskResult<()>;

    /// The names in a directory, sorted, without `.` and `..`.
    ///
    /// # Errors
    /// When there is no such directory, or the system says no.
    fn list(&self, path: &str) -> DiskResult<Vec<String>>;

    /// Renames a file over whatever has the new name. Atomic, durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When there is no such file, or the system says no.
    fn rename(&self, from: &str, to: &str) -> DiskResult<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When there is no such file, or the system says no.
    fn remove(&self, path: &str) -> DiskResult<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// When the disk failed: what is durable is then unknown.
    fn sync_dir(&self, path: &str) -> DiskResult<()>;
}

/// One open file.
pub trait DiskFile {
    /// Reads from `offset` until the buffer is full or the file ends; says how much it read.
    ///
    /// # Errors
    /// When the disk failed.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> DiskResult<usize>;

    /// Writes all parts, one after the other, at `offset`: one system call as a rule. Durable
    /// after [`DiskFile::sync_data`]; until then any part of it may be on the disk.
    ///
    /// # Errors
    /// When there is no space or the disk failed: any part of it may then be in the file.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> DiskResult<()>;

    /// Makes what was written, and the length, durable (`fdatasync`).
    ///
    /// # Errors
    /// When the disk failed. Nothing may be concluded from a later success: the kernel may have
    /// dropped what it could not write (Rebello et al., ATC 2020).
    fn sync_data(&self) -> DiskResult<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// When the disk failed.
    fn length(&self) -> DiskResult<u64>;

    /// Writes zeros over a range, so that its blocks are allocated and later writes to it change
    /// no metadata. Durable after [`DiskFile::sync_data`].
    ///
    /// # Errors
    /// When there is no space or the disk failed.
    fn write_zeros(&self, offset: u64, length: u64) -> DiskResult<()> {
        const CHUNK_BYTES: usize = 64 * 1024;
        let in_memory =
            |bytes: u64| usize::try_from(bytes).map_or(CHUNK_BYTES, |b| b.min(CHUNK_BYTES));
        let zeros = vec![0_u8; in_memory(length)];
        let mut done = 0;
        while done < length {
            let part = zeros.get(..in_memory(length - done)).unwrap_or(&zeros);
            self.write_at(&[IoSlice::new(part)], offset + done)?;
            done += u64::try_from(part.len()).unwrap_or(0);
        }
        Ok(())
    }
}
