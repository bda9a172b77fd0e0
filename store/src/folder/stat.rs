//! What `statx(2)` says of one thing.

use rustix::fs::{FileType, Statx, StatxAttributes, StatxTimestamp};
use serde::{Deserialize, Serialize};

use crate::owner::Ids;
use crate::time::Time;

/// Permission bits a file may carry: set-id and sticky bits never travel (trap T14).
const FILE_MODE_MASK: u16 = 0o777;
/// Of directories: shared folders live on set-group-id, public ones on sticky.
const DIRECTORY_MODE_MASK: u16 = 0o3777;
/// All permission bits that there are.
const MODE_MASK: u16 = 0o7777;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket, device, or the root of another mount: never replicated, never entered.
    Special,
}

impl Kind {
    pub(super) fn of(kind: FileType) -> Option<Self> {
        match kind {
            FileType::RegularFile => Some(Self::File),
            FileType::Directory => Some(Self::Directory),
            FileType::Symlink => Some(Self::Symlink),
            FileType::Unknown => None,
            _ => Some(Self::Special),
        }
    }

    /// `mode` as far as a thing of this kind may carry it. Compare modes after this.
    #[must_use]
    pub fn mask_mode(self, mode: u16) -> u16 {
        match self {
            Self::Directory => mode & DIRECTORY_MODE_MASK,
            Self::File | Self::Symlink | Self::Special => mode & FILE_MODE_MASK,
        }
    }
}

/// A look at one thing. Identity is (`ino`, `btime`) within one file system: inode numbers are
/// handed out again at once, birth times are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Inode number.
    pub ino: u64,
    /// Birth time; zero where the file system keeps none.
    pub btime: Time,
    /// Bytes.
    pub size: u64,
    /// Time of last modification of the content.
    pub mtime: Time,
    /// Time of last change of anything, a rename included.
    pub ctime: Time,
    /// Permission bits, `0o7777`, as they are on disk: see [`Kind::mask_mode`].
    pub mode: u16,
    /// Number of names.
    pub nlink: u32,
    /// The user whose it is, by this host's number.
    pub uid: u32,
    /// Its group, by this host's number.
    pub gid: u32,
    /// The file system; changes over reboots, so it is never stored.
    #[serde(skip)]
    pub dev: u64,
}

impl Stat {
    /// The permission bits that may travel.
    #[must_use]
    pub fn masked_mode(&self) -> u16 {
        self.kind.mask_mode(self.mode)
    }

    /// Whose it is, as this host's kernel says it.
    #[must_use]
    pub fn ids(&self) -> Ids {
        Ids { uid: self.uid, gid: self.gid }
    }

    /// Whether both are looks at the same thing, whatever its name and content.
    #[must_use]
    pub fn same_inode(&self, other: &Self) -> bool {
        self.ino == other.ino && self.btime == other.btime && self.kind == other.kind
    }

    /// Whether nothing speaks for another content. `ctime` is left out: a rename or exchange of
    /// ours moves it. A store through `mmap` that is not yet written back may hide.
    #[must_use]
    pub fn same_content_hint(&self, other: &Self) -> bool {
        self.same_inode(other) && self.size == other.size && self.mtime == other.mtime
    }

    /// As [`Self::same_content_hint`], and not even `ctime` moved: a program that set the mtime
    /// back is seen too.
    #[must_use]
    pub fn same_to_ctime(&self, other: &Self) -> bool {
        self.same_content_hint(other) && self.ctime == other.ctime
    }
}

/// How a look treats the root of another mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MountRoot {
    /// It is what it is: used for the folder itself, which may well be a mount point.
    AsItIs,
    /// It is [`Kind::Special`]: another file system begins here (trap T27).
    Special,
}

impl Stat {
    pub(super) fn from_statx(from: &Statx, mount_root: MountRoot) -> Self {
        let mode = from.stx_mode;
        let foreign = mount_root == MountRoot::Special
            && from.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        let kind = match Kind::of(FileType::from_raw_mode(mode.into())) {
            Some(kind) if !foreign => kind,
            _ => Kind::Special,
        };
        Self {
            kind,
            ino: from.stx_ino,
            btime: time(from.stx_btime),
            size: from.stx_size,
            mtime: time(from.stx_mtime),
            ctime: time(from.stx_ctime),
            mode: mode & MODE_MASK,
            nlink: from.stx_nlink,
            uid: from.stx_uid,
            gid: from.stx_gid,
            dev: rustix::fs::makedev(from.stx_dev_major, from.stx_dev_minor),
        }
    }
}

fn time(from: StatxTimestamp) -> Time {
    Time { secs: from.tv_sec, nanos: from.tv_nsec }
}
