//! How much room a file system has.

use super::{Dir, FolderError, Result};

/// Bytes that an ordinary user may still write to the file system of a directory.
///
/// # Errors
/// When it cannot be asked.
pub fn free_bytes(dir: &Dir) -> Result<u64> {
    let stat = rustix::fs::fstatvfs(dir)
        .map_err(|errno| FolderError::from_errno(dir.path().clone(), errno))?;
    // A tmpfs without a bound says that it has no blocks at all.
    let bounded = stat.f_blocks > 0;
    Ok(if bounded { stat.f_bavail.saturating_mul(stat.f_frsize) } else { u64::MAX })
}
