//! What a new version takes over from the inode that it replaces: what was attached to it, and
//! whose it is where the log does not say (trap T14). The log knows nothing of these: they are this
//! host's own.
//!
//! Only the label, access lists of the same owner, and those attributes of users (`user.*`) that the
//! log does not have go along.
//! Capabilities (`security.capability`), `trusted.*` and whatever else there is were given to other
//! bytes: the new file never had them.

use rustix::io::Errno;

use super::attach::give;
use super::stat::Kind;
use super::xattrs::is_in;
use super::{Dir, FolderError, Handle, Properties, Result, Stat};
use crate::name::Name;
use crate::owner::Ids;
use crate::xattr::{XATTR_PREFIX, Xattrs};

/// Access lists; setting one changes the mode.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Whose the new version is, compared with the inode that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Same,
    /// An access list is its owner's word about his file: it does not bind the next owner.
    Another,
}

/// What a staged thing took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Whose it is now, if that changed.
    pub owner: Option<Ids>,
    /// Whether it has attributes of users by it: too long for the log, or set since the last look.
    pub has_users_attributes: bool,
}

/// Whether an attribute goes along. Those that the log had of the replaced version are the new one's
/// only if it has them too.
fn goes_along(attribute: &[u8], user: User, replaced: &Xattrs) -> bool {
    attribute.starts_with(XATTR_PREFIX) && !is_in(replaced, attribute)
        || attribute == b"security.selinux"
        || (ACLS.contains(&attribute) && user == User::Same)
}

/// What means that this cannot be kept here, not that something failed: the daemon may not, the
/// file system cannot, or it has just gone.
pub(super) fn is_beyond(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM
            | Errno::ACCESS
            | Errno::OPNOTSUPP
            | Errno::NODATA
            | Errno::RANGE
            | Errno::INVAL
    )
}

impl Dir {
    /// Gives the staged `name` access lists, the label and attributes of users but those `known` to the log of what it is about
    /// to replace, and its owner and group if `staged` names none, as far as the daemon may and the
    /// file system can; its own mode stays.
    ///
    /// # Errors
    /// `Unstable` when `replaced` is not the inode that was `expected`: another one's owner and
    /// rights are not for this content. `NoSpace`, and what makes the disk unusable. That
    /// `replaced` is gone is none: the exchange will say so.
    pub fn inherit(
        &self,
        name: &Name,
        staged: Properties,
        from: &Self,
        replaced: &Name,
        expected: &Stat,
        known: &Xattrs,
    ) -> Result<Inherited> {
        let old = match from.pin(replaced) {
            Ok(old) => old,
            Err(Errno::NOENT) => return Ok(Inherited::default()),
            Err(errno) => return Err(from.error(replaced, errno)),
        };
        let old_stat = old.stat().map_err(|errno| from.error(replaced, errno))?;
        if !old_stat.same_inode(expected) {
            return Err(FolderError::Unstable(from.path().join(replaced)));
        }
        let failed = |errno| self.error(name, errno);
        let new = self.pin(name).map_err(failed)?;
        let mut given = None;
        if staged.owner.is_none() {
            let own = new.stat().map_err(failed)?.ids();
            give(&new, Some(own), old_stat.ids()).map_err(failed)?;
            given = Some(old_stat.ids()).filter(|ids| *ids != own);
        }
        let mut inherited = Inherited::default();
        if matches!(old_stat.kind, Kind::File | Kind::Directory) {
            let taken = take_attributes(&new, staged.mode, &old, &old_stat, known);
            inherited.has_users_attributes = taken.map_err(failed)?;
        }
        // It may not have been to give.
        if given.is_some() {
            inherited.owner = Some(new.stat().map_err(failed)?.ids());
        }
        Ok(inherited)
    }
}

/// Whether any of what was taken over was attached by a user.
fn take_attributes(
    new: &Handle,
    mode: u16,
    old: &Handle,
    old_stat: &Stat,
    known: &Xattrs,
) -> std::result::Result<bool, Errno> {
    let names = match old.attributes() {
        Err(errno) if is_beyond(errno) => return Ok(false),
        other => other?,
    };
    if names.is_empty() {
        return Ok(false);
    }
    let stat = new.stat()?;
    if stat.kind != old_stat.kind {
        return Ok(false);
    }
    let user = if stat.uid == old_stat.uid { User::Same } else { User::Another };
    let (mut mode_moved, mut has_users) = (false, false);
    for attribute in names.split(|byte| *byte == 0).filter(|name| goes_along(name, user, known)) {
        let value = old.attribute(attribute);
        match value.and_then(|value| new.set_attribute(attribute, &value)) {
            Ok(()) => {
                mode_moved |= ACLS.contains(&attribute);
                has_users |= attribute.starts_with(XATTR_PREFIX);
            }
            Err(errno) if is_beyond(errno) => {
                let attribute = attribute.escape_ascii();
                log::debug!("event=attribute_not_kept attribute={attribute} error=\"{errno}\"");
            }
            Err(errno) => return Err(errno),
        }
    }
    // The group bits of a mode are the mask of an access list: the version says what they are.
    if mode_moved {
        new.set_mode_pinned(stat.kind.mask_mode(mode))?;
    }
    Ok(has_users)
}
