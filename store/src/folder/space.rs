//! How much room a file system has.

use super::{Dir, FolderError, Result};

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// In all; 0 where there is no bound.
    pub total: u64,
    /// What an ordinary user may still write.
    pub free: u64,
}

impl Space {
    /// Of the file system of a directory.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn of(dir: &Dir) -> Result<Self> {
        let space = dir.handle.space();
        space.map_err(|errno| FolderError::from_errno(dir.path().clone(), errno))
    }
}

/// Bytes that an ordinary user may still write to the file system of a directory.
///
/// # Errors
/// When it cannot be asked.
pub fn free_bytes(dir: &Dir) -> Result<u64> {
    let Space { total, free } = Space::of(dir)?;
    // A tmpfs without a bound says that it has no blocks at all.
    Ok(if total > 0 { free } else { u64::MAX })
}
