//! Attributes of users (`user.*`, xattr(7)): reading and setting them, as far as they are the log's.

use rustix::io::Errno;

use super::inherit::is_beyond;
use super::{Dir, FolderError, Handle, Result, Stat};
use crate::name::Name;
use crate::xattr::{XATTR_PREFIX, Xattr, Xattrs, is_kept};

/// The attributes of users that a thing has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAttributes {
    /// Those that the log can hold.
    pub kept: Xattrs,
    /// The names of the others, with their prefix: there are too many, or they are too long.
    pub left_out: Vec<Vec<u8>>,
}

impl Dir {
    /// Reads the attributes of users of an entry; of a symlink itself, which has none. One call for
    /// what has none.
    ///
    /// # Errors
    /// `Absent` most of all; `Blocked` if it has some that may not be read. That the file system has
    /// no attributes is none: then there are none.
    pub fn user_attributes(&self, name: &Name) -> Result<UserAttributes> {
        let listed = match self.handle.attributes_at(self.entry(name)?) {
            Err(errno) if is_beyond(errno) => Vec::new(),
            other => other.map_err(|errno| self.error(name, errno))?,
        };
        let mut names = user_names(&listed);
        if names.is_empty() {
            return Ok(UserAttributes::default());
        }
        names.sort_unstable();
        let failed = |errno| self.error(name, errno);
        let entry = self.pin(name).map_err(failed)?;
        let mut found = UserAttributes::default();
        for name in names {
            let whole = [XATTR_PREFIX, name].concat();
            let value = match entry.attribute(&whole) {
                // That it may not be read does not mean that it is gone.
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(failed(errno)),
                // It has just gone.
                Err(errno) if is_beyond(errno) => continue,
                other => other.map_err(failed)?,
            };
            if found.kept.push(name.to_vec(), value).is_err() {
                found.left_out.push(whole);
            }
        }
        Ok(found)
    }

    /// Brings the attributes of users of an entry from `before` to `wanted`, as far as the daemon
    /// may and the file system can; others stay.
    ///
    /// # Errors
    /// `Unstable` when it is another inode than `expected`.
    pub fn change_user_attributes(
        &self,
        name: &Name,
        expected: &Stat,
        before: &Xattrs,
        wanted: &Xattrs,
    ) -> Result<()> {
        let failed = |errno| self.error(name, errno);
        let entry = self.pin(name).map_err(failed)?;
        if !entry.stat().map_err(failed)?.same_inode(expected) {
            return Err(FolderError::Unstable(self.path().join(name)));
        }
        change(&entry, before, wanted).map_err(failed)
    }

    /// Gives a directory of which this is the handle these attributes of users.
    ///
    /// # Errors
    /// What makes the disk unusable.
    pub fn set_own_user_attributes(&self, wanted: &Xattrs) -> Result<()> {
        change(&self.handle, Xattrs::NONE, wanted)
            .map_err(|errno| FolderError::from_errno(self.path().clone(), errno))
    }
}

/// The names of users' attributes that may be the log's, without their prefix.
fn user_names(listed: &[u8]) -> Vec<&[u8]> {
    let names = listed.split(|byte| *byte == 0);
    names.filter_map(|name| name.strip_prefix(XATTR_PREFIX)).filter(|name| is_kept(name)).collect()
}

/// Whether an attribute of a disk is one that the log has in this set.
pub(super) fn is_in(set: &Xattrs, whole: &[u8]) -> bool {
    whole.strip_prefix(XATTR_PREFIX).is_some_and(|name| set.get(name).is_some())
}

/// Brings them from one set to another, as far as it can be.
pub(super) fn change(
    thing: &Handle,
    before: &Xattrs,
    wanted: &Xattrs,
) -> std::result::Result<(), Errno> {
    let whole = |xattr: &Xattr| [XATTR_PREFIX, xattr.name()].concat();
    for xattr in before.iter().filter(|xattr| wanted.get(xattr.name()).is_none()) {
        beyond_is_no_failure(thing.remove_attribute(&whole(xattr)))?;
    }
    for xattr in wanted.iter().filter(|it| before.get(it.name()) != Some(it.value())) {
        beyond_is_no_failure(thing.set_attribute(&whole(xattr), xattr.value()))?;
    }
    Ok(())
}

/// What a disk cannot hold is told by looking at it afterwards.
fn beyond_is_no_failure(set: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match set {
        // A file system says so too when only its room for attributes is used up (ext4).
        Err(Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG) => Ok(()),
        Err(errno) if is_beyond(errno) => Ok(()),
        other => other,
    }
}
