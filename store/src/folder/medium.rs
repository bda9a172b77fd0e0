//! What kind of file system a directory lies on. Also in which boot, and in which mounting of its device,
//! our files lie: when either changes, what only the page cache held may be gone.

use super::Dir;

/// Names this boot and this mounting of the file system. Equal in all mount namespaces.
#[must_use]
pub fn medium(dir: &Dir) -> String {
    dir.handle.medium()
}

/// `FS_CASEFOLD_FL` (`linux/fs.h`).
const CASEFOLD: u32 = 0x4000_0000;

/// File systems on which things change without an event here (`statfs(2)`, `linux/magic.h`), with
/// what to call them and by whom they are changed.
const QUIET: [(u32, &str, &str); 14] = [
    (0x0000_6969, "NFS", "other hosts"),
    (0x0000_517b, "SMB", "other hosts"),
    (0xff53_4d42, "CIFS", "other hosts"),
    (0xfe53_4d42, "SMB2", "other hosts"),
    (0x6573_5546, "FUSE", "others than the kernel of this host"),
    (0x0102_1997, "9p", "the host that shares it"),
    (0x00c3_6400, "Ceph", "other hosts"),
    (0x5346_414f, "AFS", "other hosts"),
    (0x7375_7245, "Coda", "other hosts"),
    (0x0bd0_0bd0, "Lustre", "other hosts"),
    (0x0116_1970, "GFS2", "other hosts"),
    (0x7461_636f, "OCFS2", "other hosts"),
    (0x786f_4256, "a shared folder of VirtualBox", "the host that shares it"),
    (0x794c_7630, "overlayfs", "somebody in the directories that it is made of"),
];

/// A file system of which inotify does not tell everything (trap T27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// What it is called.
    pub name: &'static str,
    /// Who changes things on it without an event here.
    pub changed_by: &'static str,
}

/// The file system with this `f_type`, if inotify does not tell everything of it.
fn quiet(magic: u32) -> Option<Quiet> {
    let found = QUIET.iter().find(|(known, ..)| *known == magic);
    found.map(|&(_, name, changed_by)| Quiet { name, changed_by })
}

impl Dir {
    /// Whether it lies on a file system that changes without an event here. `None` also when nobody
    /// can tell.
    #[must_use]
    pub fn quiet_medium(&self) -> Option<Quiet> {
        self.handle.file_system_magic().ok().and_then(quiet)
    }

    /// Whether names in it that differ only in case are one name (`FS_CASEFOLD_FL`, trap T15). False
    /// also when nobody can tell.
    #[must_use]
    pub fn ignores_case(&self) -> bool {
        self.handle.inode_flags().is_ok_and(|flags| flags & CASEFOLD != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    /// Source: trap T27; the numbers are those of `linux/magic.h`.
    #[test]
    fn file_systems_that_change_from_elsewhere_are_known() {
        for (magic, name) in [(0x6969, "NFS"), (0x6573_5546, "FUSE"), (0x794c_7630, "overlayfs")] {
            assert_eq!(quiet(magic).map(|quiet| quiet.name), Some(name));
        }
        for (magic, name) in [(0xef53, "ext4"), (0x0102_1994, "tmpfs"), (0x5846_5342, "xfs")] {
            assert_eq!(quiet(magic), None, "{name}");
        }
    }

    /// `/proc` is neither shared nor does it fold case; both questions can be asked of anything.
    #[test]
    fn a_plain_directory_is_neither_quiet_nor_folding() {
        let folder = Folder::open(std::path::Path::new("/proc")).unwrap();
        assert_eq!((folder.root().quiet_medium(), folder.root().ignores_case()), (None, false));
    }
}
