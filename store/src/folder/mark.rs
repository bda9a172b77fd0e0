//! The mark on the folder's root: whose folder it is (trap T20).

use rustix::fs::XattrFlags;

use super::{Dir, FolderError, Result};

/// The attribute; see docs/format.md.
const MARK: &str = "user.pickbox";
/// Longest mark that is read.
const MARK_BYTES_MAX: usize = 256;

impl Dir {
    /// The mark that this directory bears. None where there is none, none can be, or it is longer
    /// than any mark of ours.
    #[must_use]
    pub fn mark(&self) -> Option<String> {
        let mut bytes = [0; MARK_BYTES_MAX];
        let count = rustix::fs::fgetxattr(&self.fd, MARK, &mut bytes).ok()?;
        bytes.get(..count).map(|mark| String::from_utf8_lossy(mark).into_owned())
    }

    /// Puts a mark on this directory.
    ///
    /// # Errors
    /// `Blocked` without the right to write to it; `Other` where the file system has no
    /// attributes; `NoSpace`.
    pub fn set_mark(&self, mark: &str) -> Result<()> {
        rustix::fs::fsetxattr(&self.fd, MARK, mark.as_bytes(), XattrFlags::empty())
            .map_err(|errno| FolderError::from_errno(self.path.clone(), errno))
    }
}
