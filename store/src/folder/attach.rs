//! Owner, mode and time of a thing that stands in the folder.
//!
//! The name is opened once, for nothing but a handle (`O_PATH`), and what was expected there is
//! looked for in the inode behind it. What follows is done to that inode: whoever puts another
//! thing at the name meanwhile does not get its owner or mode changed (fault 85).

use rustix::io::Errno;

use super::inherit::is_beyond;
use super::{Dir, FolderError, Handle, Kind, Properties, Result, Stat};
use crate::name::Name;
use crate::owner::Ids;

impl Dir {
    /// Brings owner, mode and time of a thing to `wanted`, as far as they differ and the daemon
    /// may; of a file never set-id or sticky bits, of a symlink itself. Needs no right to read it.
    ///
    /// # Errors
    /// `Unstable` when the name is not that of `expected`, or a user changed its content, owner or
    /// mode since: that is an edit, and goes first; `WrongKind` for
    /// a special file, `Absent`, `Blocked` without ownership.
    pub fn attach(&self, name: &Name, expected: &Stat, wanted: Properties) -> Result<Stat> {
        let failed = |errno| self.error(name, errno);
        let entry = self.pin(name).map_err(failed)?;
        let stat = entry.stat().map_err(failed)?;
        let same_rights = (stat.mode, stat.ids()) == (expected.mode, expected.ids());
        if !stat.same_content_hint(expected) || !same_rights {
            return Err(FolderError::Unstable(self.path().join(name)));
        }
        if stat.kind == Kind::Special {
            return Err(FolderError::WrongKind(self.path().join(name)));
        }
        attach(&entry, stat, wanted).map_err(failed)?;
        entry.stat().map_err(failed)
    }

    /// As [`Self::attach`], for what stands in a directory of ours, where nobody else puts anything.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_ours(&self, name: &Name, wanted: Properties) -> Result<Stat> {
        self.attach(name, &self.stat(name)?, wanted)
    }

    /// Gives a directory of which this is the handle its owner and mode.
    ///
    /// # Errors
    /// `Blocked` without ownership.
    pub fn attach_self(&self, wanted: Properties) -> Result<Stat> {
        let failed = |errno| FolderError::from_errno(self.path().clone(), errno);
        let stat = self.stat_self()?;
        attach(&self.handle, stat, wanted).map_err(failed)?;
        self.stat_self()
    }
}

fn attach(entry: &Handle, stat: Stat, wanted: Properties) -> std::result::Result<(), Errno> {
    let Properties { mode, mtime, owner } = wanted;
    let mode = stat.kind.mask_mode(mode);
    // The owner goes first: who is given a thing gets no rights to it before they are his.
    if let Some(ids) = owner {
        give(entry, Some(stat.ids()), ids)?;
    }
    if stat.kind != Kind::Symlink && stat.masked_mode() != mode {
        entry.set_mode_pinned(mode)?;
    }
    if stat.kind != Kind::Directory && stat.mtime != mtime {
        entry.set_mtime_pinned(mtime)?;
    }
    Ok(())
}

/// Gives an open thing away, if it is not known to be theirs already. Where the daemon may not, or
/// the file system knows no owners, it stays whose it is: that is this host's affair, and no
/// failure.
pub(super) fn give(thing: &Handle, from: Option<Ids>, ids: Ids) -> std::result::Result<(), Errno> {
    let owner = from.is_none_or(|from| from.uid != ids.uid).then_some(ids.uid);
    let group = from.is_none_or(|from| from.gid != ids.gid).then_some(ids.gid);
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    // A daemon that is not root may still give a file to a group that it is in.
    let given = thing.set_owner(owner, group).or_else(|errno| match (owner, group) {
        (Some(_), Some(_)) if is_beyond(errno) => thing.set_owner(None, group).and(Err(errno)),
        _ => Err(errno),
    });
    match given {
        Err(errno) if is_beyond(errno) => {
            log::debug!("event=owner_not_set uid={} gid={} error=\"{errno}\"", ids.uid, ids.gid);
            Ok(())
        }
        other => other,
    }
}
