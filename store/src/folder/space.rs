//! How much room a file system has.

use super::{Dir, FolderError, Result};

/// Bytes that an ordinary user may still write to the file system of a directory.
///
/// # Errors
/// When it cannot be asked.
pub fn free_bytes(dir: &Dir) -> Result<u64> {
    let stat = rustix::fs::fstatvfs(dir)
        .map_err(|errno| FolderError::from_errno(dir.path().clone(), errno))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
