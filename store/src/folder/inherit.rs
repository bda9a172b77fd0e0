//! What a new version takes over from the inode that it replaces: whose it is, and what was
//! attached to it (trap T14). The log knows nothing of these: they are this host's own.

use rustix::fs::{AtFlags, Gid, StatxFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::stat::{Kind, MountRoot};
use super::{Dir, Result, Stat, proc_path};
use crate::name::Name;

/// Longest list of names (`XATTR_LIST_MAX`) and longest value (`XATTR_SIZE_MAX`), xattr(7).
const XATTR_BYTES_MAX: usize = 64 * 1024;
/// A list of names that is not long, tried first.
const LIST_BYTES: usize = 512;
/// Access lists; setting one changes the mode.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Whether an attribute goes along. Capabilities do not: they were given to other bytes.
fn goes_along(attribute: &[u8]) -> bool {
    attribute.starts_with(b"user.") || ACLS.contains(&attribute) || attribute == b"security.selinux"
}

/// What means that this cannot be kept here, not that something failed: the daemon may not, the
/// file system cannot, or it has just gone.
fn is_beyond(errno: Errno) -> bool {
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
    /// Gives the staged `name` owner, group, access lists, attributes of users and the label of
    /// what it is about to replace, as far as the daemon may and the file system can; its own mode
    /// stays. Nothing is set where nothing differs: two looks are all that it costs then.
    ///
    /// # Errors
    /// `NoSpace`, and what makes the disk unusable. That `replaced` is gone is none: the exchange
    /// will say so.
    pub fn inherit(&self, name: &Name, mode: u16, from: &Self, replaced: &Name) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let asked = StatxFlags::BASIC_STATS;
        // RACE: another inode may be put at the name after this look; the new version then has the
        // owner of the one before.
        let old = match rustix::fs::statx(&from.fd, replaced.as_bytes(), flags, asked) {
            Ok(old) => old,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(from.error(replaced, errno)),
        };
        self.take_owner(name, old.stx_uid, old.stx_gid)?;
        let kind = Stat::from_statx(&old, MountRoot::Special).kind;
        if !matches!(kind, Kind::File | Kind::Directory) {
            return Ok(());
        }
        self.take_attributes(name, mode, kind, &from.xattr_path(replaced))
            .map_err(|errno| self.error(name, errno))
    }

    /// What is staged is the daemon's own.
    fn take_owner(&self, name: &Name, uid: u32, gid: u32) -> Result<()> {
        let owner = (uid != rustix::process::geteuid().as_raw()).then(|| Uid::from_raw(uid));
        let group = (gid != rustix::process::getegid().as_raw()).then(|| Gid::from_raw(gid));
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        let set = |owner, group| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&self.fd, name.as_bytes(), owner, group, flags)
        };
        // A daemon that is not root may still give a file to a group that it is in.
        let set = set(owner, group).or_else(|errno| match (owner, group) {
            (Some(_), Some(_)) if is_beyond(errno) => set(None, group).and(Err(errno)),
            _ => Err(errno),
        });
        match set {
            Err(errno) if is_beyond(errno) => {
                log::debug!("event=owner_not_kept name=\"{name}\" uid={uid} gid={gid}");
                Ok(())
            }
            other => other.map_err(|errno| self.error(name, errno)),
        }
    }

    fn take_attributes(
        &self,
        name: &Name,
        mode: u16,
        kind: Kind,
        old: &[u8],
    ) -> std::result::Result<(), Errno> {
        let names = list(old)?;
        if names.is_empty() || self.stat(name).map_err(|error| error.errno())?.kind != kind {
            return Ok(());
        }
        let new = self.xattr_path(name);
        let mut mode_moved = false;
        for attribute in names.split(|byte| *byte == 0).filter(|name| goes_along(name)) {
            let mut value = vec![0; XATTR_BYTES_MAX];
            let set = rustix::fs::lgetxattr(old, attribute, &mut value[..]).and_then(|count| {
                let value = value.get(..count).unwrap_or_default();
                rustix::fs::lsetxattr(&*new, attribute, value, XattrFlags::empty())
            });
            match set {
                Ok(()) => mode_moved |= ACLS.contains(&attribute),
                Err(errno) if is_beyond(errno) || errno == Errno::NOENT => {
                    let attribute = attribute.escape_ascii();
                    log::debug!("event=attribute_not_kept name=\"{name}\" attribute={attribute}");
                }
                Err(errno) => return Err(errno),
            }
        }
        // The group bits of a mode are the mask of an access list: the version says what they are.
        if mode_moved { self.set_mode(name, mode).map_err(|error| error.errno()) } else { Ok(()) }
    }

    /// The calls on attributes have no form that takes a directory; this path leads through it,
    /// and a symlink at its end is not followed.
    fn xattr_path(&self, name: &Name) -> Vec<u8> {
        [proc_path(&self.fd).as_bytes(), b"/", name.as_bytes()].concat()
    }
}

/// The names of the attributes of a file, each with a zero byte behind it.
fn list(path: &[u8]) -> std::result::Result<Vec<u8>, Errno> {
    let mut names = vec![0; LIST_BYTES];
    let count = match rustix::fs::llistxattr(path, &mut names[..]) {
        Err(Errno::RANGE) => {
            names.resize(XATTR_BYTES_MAX, 0);
            rustix::fs::llistxattr(path, &mut names[..])
        }
        other => other,
    };
    match count {
        Ok(count) => names.truncate(count),
        Err(errno) if is_beyond(errno) || errno == Errno::NOENT => names.clear(),
        Err(errno) => return Err(errno),
    }
    Ok(names)
}
