//! Reading a user's file while it may change: bytes count only between two equal looks.

use std::sync::Arc;

use crate::folder::{File, Folder, FolderError, Stat};
use crate::name::RelPath;

/// An open file of the user's, as the engine expects it to be.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    file: Arc<File>,
    expect: Stat,
}

/// Why bytes of a file are not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// It is not what was expected (any more).
    Changed,
    /// It cannot be opened or read: the system's words.
    Unreadable(String),
}

impl LiveFile {
    /// Opens a file and compares it with what is expected. Renames do not matter: identity, size
    /// and mtime do.
    pub(crate) fn open(folder: &Folder, path: &RelPath, expect: Stat) -> Result<Self, ReadError> {
        let (parent, name) = path.split().ok_or(ReadError::Changed)?;
        let opened = folder.dir(&parent).and_then(|dir| dir.open_read(&name));
        let file = opened.map_err(|error| match error {
            FolderError::Absent(_) | FolderError::NotDirectory(_) | FolderError::WrongKind(_) => {
                ReadError::Changed
            }
            other => ReadError::Unreadable(other.to_string()),
        })?;
        let live = Self { file: Arc::new(file), expect };
        live.look()?;
        Ok(live)
    }

    /// How it looks now, if that is still as expected.
    pub(crate) fn look(&self) -> Result<Stat, ReadError> {
        match self.file.stat() {
            Ok(stat) if stat.same_content_hint(&self.expect) => Ok(stat),
            Ok(_) => Err(ReadError::Changed),
            Err(errno) => Err(ReadError::Unreadable(errno.to_string())),
        }
    }

    /// Bytes, as expected.
    pub(crate) fn size(&self) -> u64 {
        self.expect.size
    }

    /// Fills the buffer from `offset` on.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        read_exact(&self.file, buffer, offset)
    }

    /// Waits until its bytes are on disk.
    pub(crate) fn sync(&self) -> Result<(), ReadError> {
        self.file.sync_data().map_err(|error| ReadError::Unreadable(error.to_string()))
    }

    /// The open file itself.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }
}

/// Fills the buffer; a file that ends before is not what was expected.
pub(crate) fn read_exact(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ReadError::Changed,
        _ => ReadError::Unreadable(error.to_string()),
    })
}
