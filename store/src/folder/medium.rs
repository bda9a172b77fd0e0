//! Which boot and which mount our files lie on: when either changes, what only the page cache
//! held is gone.

use super::Dir;

/// Names this boot and this mount.
#[must_use]
pub fn medium(dir: &Dir) -> String {
    dir.handle.medium()
}
