//! The mark on the folder's root: whose folder it is (trap T20).

use super::{Dir, FolderError, Result};

/// The attribute; see docs/format.md.
const MARK: &[u8] = b"user.pickbox";
/// Longest mark that is read.
const MARK_BYTES_MAX: usize = 256;

impl Dir {
    /// The mark that this directory bears. None where there is none, none can be, or it is longer
    /// than any mark of ours.
    #[must_use]
    pub fn mark(&self) -> Option<String> {
        let mark = self.handle.attribute(MARK).ok()?;
        (mark.len() <= MARK_BYTES_MAX).then(|| String::from_utf8_lossy(&mark).into_owned())
    }

    /// Puts a mark on this directory.
    ///
    /// # Errors
    /// `Blocked` without the right to write to it; `Other` where the file system has no
    /// attributes; `NoSpace`.
    pub fn set_mark(&self, mark: &str) -> Result<()> {
        self.handle
            .set_attribute(MARK, mark.as_bytes())
            .map_err(|errno| FolderError::from_errno(self.path.clone(), errno))
    }
}
