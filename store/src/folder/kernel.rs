//! The calls to the kernel: each method is one of them, or the few that belong together.
//!
//! Nothing here decides anything; names were checked above, and what the kernel says comes back as
//! it says it.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{
    Advice, AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, RawDir, RenameFlags, ResolveFlags,
    StatxFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::list::Listed;
use super::space::Space;
use super::stat::{Kind, MountRoot, Stat};
use crate::lease::{self, Lease};
use crate::name::Name;
use crate::time::Time;

type Result<T> = std::result::Result<T, Errno>;

/// How every path is walked.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// `O_NONBLOCK`: never wait for the other end of a pipe or for a lease. `O_NOCTTY`: a terminal
/// must not become ours.
const OPEN_READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

const OPEN_NEW: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

const STATX: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Longest list of names (`XATTR_LIST_MAX`) and longest value (`XATTR_SIZE_MAX`), xattr(7).
const XATTR_BYTES_MAX: usize = 64 * 1024;
/// A list of names, or a value, that is not long, tried first.
const XATTR_BYTES: usize = 512;
/// Bytes that one `getdents64(2)` may fill: about a thousand entries.
const PAGE_BYTES: usize = 32 * 1024;

/// What an entry is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A directory, to be listed and walked from.
    Walking,
    /// A file, to be read.
    Reading,
    /// A file that does not exist yet, mode 0600, to be read and written.
    Making,
    /// Whatever it is, to be looked at only (`O_PATH`): nothing is opened for reading, no device
    /// is woken.
    Looking,
}

impl For {
    fn flags(self) -> (OFlags, Mode) {
        match self {
            Self::Walking => (OPEN_DIRECTORY, Mode::empty()),
            Self::Reading => (OPEN_READ, Mode::empty()),
            Self::Making => (OPEN_NEW, Mode::RUSR | Mode::WUSR),
            Self::Looking => (OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()),
        }
    }
}

/// How an entry is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rename {
    /// To a free name.
    NoReplace,
    /// With what is there.
    Exchange,
}

/// An open descriptor.
#[derive(Debug)]
pub(super) struct Handle(OwnedFd);

/// The entries of a directory, read page by page.
#[derive(Debug)]
pub(super) struct Entries {
    fd: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
}

/// Opening and looking.
impl Handle {
    /// A directory by a path of the operator's.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OPEN_DIRECTORY - OFlags::NOFOLLOW;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// The directory that a path of the operator's leads to, to be looked at only: also where this
    /// process may not read.
    pub(super) fn look(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// What lies at `path` below this directory.
    pub(super) fn beneath(&self, path: &[u8], what: For) -> Result<Self> {
        let (flags, mode) = what.flags();
        rustix::fs::openat2(&self.0, path, flags, mode, RESOLVE).map(Self)
    }

    /// The directory above this one. Not a path of anybody's, and never opened for more than a
    /// look.
    pub(super) fn above(&self) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, c"..", flags, Mode::empty()).map(Self)
    }

    pub(super) fn duplicate(&self) -> Result<Self> {
        let cloned = self.0.try_clone();
        cloned.map(Self).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    pub(super) fn stat(&self) -> Result<Stat> {
        rustix::fs::statx(&self.0, c"", AtFlags::EMPTY_PATH, STATX)
            .map(|statx| Stat::from_statx(&statx, MountRoot::AsItIs))
    }

    /// Of an entry of this directory; a symlink itself.
    pub(super) fn stat_at(&self, name: &[u8]) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(&self.0, name, flags, STATX)
            .map(|statx| Stat::from_statx(&statx, MountRoot::Special))
    }

    pub(super) fn read_link_at(&self, name: &[u8]) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(&self.0, name, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// A listing with an offset of its own.
    pub(super) fn entries(&self) -> Result<Entries> {
        let fd = rustix::fs::openat(&self.0, c".", OPEN_DIRECTORY, Mode::empty())?;
        Ok(Entries { fd, buffer: vec![MaybeUninit::uninit(); PAGE_BYTES] })
    }

    /// A name for this very inode that calls taking only path text can be given.
    pub(super) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    /// Names this boot, and this mounting of the file system as far as the kernel tells.
    pub(super) fn medium(&self) -> String {
        // OUR OWN FILE: the kernel's, not the user's.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        format!("{} {}", boot.trim(), self.mounting().unwrap_or(0))
    }

    /// A number that the file system got when its device was mounted. Not the mount's own
    /// (`statx(2)`): each mount namespace has another one, and a service manager makes a namespace
    /// for each start. The kernel shows a mounted device as a directory below `/sys/fs`, whose
    /// inode number is given out once a boot (`kernfs`); only to some file systems on a device.
    fn mounting(&self) -> Option<u64> {
        let mask = StatxFlags::BASIC_STATS;
        let device = rustix::fs::statx(&self.0, c"", AtFlags::EMPTY_PATH, mask).ok()?;
        let (major, minor) = (device.stx_dev_major, device.stx_dev_minor);
        let link =
            rustix::fs::readlink(format!("/sys/dev/block/{major}:{minor}"), Vec::new()).ok()?;
        let name = link.to_bytes().rsplit(|byte| *byte == b'/').next()?.to_vec();
        let shown = |kind: &&str| {
            let path = [b"/sys/fs/", kind.as_bytes(), b"/", &name].concat();
            rustix::fs::stat(path).ok()
        };
        ["ext4", "xfs", "f2fs"].iter().find_map(shown).map(|stat| stat.st_ino)
    }

    /// The number of the kind of file system (`statfs(2)`, `f_type`).
    pub(super) fn file_system_magic(&self) -> Result<u32> {
        let kind = rustix::fs::fstatfs(&self.0)?.f_type.to_le_bytes();
        // A magic number has 32 bits, in a field whose width and sign differ between processors.
        Ok(u32::from_le_bytes(kind.first_chunk().copied().unwrap_or_default()))
    }

    /// The flags of an inode (`ioctl_iflags(2)`).
    pub(super) fn inode_flags(&self) -> Result<u32> {
        rustix::fs::ioctl_getflags(&self.0).map(|flags| flags.bits())
    }

    /// The time since 1970 by the clock that stamps files.
    #[expect(clippy::unused_self, reason = "a simulated disk has a clock of its own")]
    pub(super) fn wall(&self) -> Duration {
        pickbox_raft::clock::wall()
    }

    pub(super) fn space(&self) -> Result<Space> {
        let stat = rustix::fs::fstatvfs(&self.0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }
}

impl Entries {
    /// Reads entries into `page`, at least one unless there is none left; returns how many were
    /// left out because their names are none.
    pub(super) fn fill(&mut self, page: &mut VecDeque<Listed>) -> Result<u64> {
        let mut skipped = 0;
        let mut raw = RawDir::new(&self.fd, &mut self.buffer);
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            match Name::new(bytes) {
                _ if matches!(bytes, b"." | b"..") => {}
                Err(_) => skipped += 1,
                Ok(name) => {
                    let kind = Kind::of(entry.file_type());
                    page.push_back(Listed { name, kind, ino: entry.ino() });
                }
            }
            // Only a page that held nothing but dots is followed by the next at once.
            if raw.is_buffer_empty() && !page.is_empty() {
                break;
            }
        }
        Ok(skipped)
    }
}

/// Changing what is in a directory.
impl Handle {
    pub(super) fn make_dir_at(&self, name: &[u8]) -> Result<()> {
        rustix::fs::mkdirat(&self.0, name, Mode::RWXU)
    }

    pub(super) fn symlink_at(&self, target: &[u8], name: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(target, &self.0, name)
    }

    pub(super) fn rename_at(&self, from: &[u8], dir: &Self, to: &[u8], how: Rename) -> Result<()> {
        let flags = match how {
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(&self.0, from, &dir.0, to, flags)
    }

    pub(super) fn unlink_at(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.0, name, AtFlags::empty())
    }

    pub(super) fn remove_dir_at(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)
    }

    pub(super) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.0)
    }

    pub(super) fn sync_data(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.0)
    }

    /// Everything on the file system of this.
    pub(super) fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(&self.0)
    }
}

/// Changing what is attached to an inode.
///
/// fchmod(2) and its kin refuse `O_PATH` handles and fchmodat2(2) is younger than our kernels; the
/// magic link leads to exactly the inode behind the handle.
impl Handle {
    pub(super) fn set_mode(&self, mode: u16) -> Result<()> {
        rustix::fs::fchmod(&self.0, bits(mode))
    }

    pub(super) fn set_mtime(&self, mtime: Time) -> Result<()> {
        rustix::fs::futimens(&self.0, &times(mtime))
    }

    pub(super) fn set_mode_pinned(&self, mode: u16) -> Result<()> {
        rustix::fs::chmodat(CWD, self.proc_path(), bits(mode), AtFlags::empty())
    }

    pub(super) fn set_mtime_pinned(&self, mtime: Time) -> Result<()> {
        rustix::fs::utimensat(CWD, self.proc_path(), &times(mtime), AtFlags::empty())
    }

    /// `None` leaves it as it is.
    pub(super) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(&self.0, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    /// The names of the attributes, each with a zero byte behind it.
    pub(super) fn attributes(&self) -> Result<Vec<u8>> {
        let path = self.proc_path();
        grown(|buffer| rustix::fs::listxattr(&path, buffer))
    }

    /// The same of an entry of this directory, a symlink itself: one call less than to open it.
    pub(super) fn attributes_at(&self, name: &[u8]) -> Result<Vec<u8>> {
        let path = [self.proc_path().as_bytes(), b"/", name].concat();
        grown(|buffer| rustix::fs::llistxattr(path.as_slice(), buffer))
    }

    pub(super) fn attribute(&self, name: &[u8]) -> Result<Vec<u8>> {
        let path = self.proc_path();
        grown(|buffer| rustix::fs::getxattr(&path, name, buffer))
    }

    pub(super) fn remove_attribute(&self, name: &[u8]) -> Result<()> {
        rustix::fs::removexattr(self.proc_path(), name)
    }

    pub(super) fn set_attribute(&self, name: &[u8], value: &[u8]) -> Result<()> {
        rustix::fs::setxattr(self.proc_path(), name, value, XattrFlags::empty())
    }
}

/// Asks with a short buffer, and with the longest if that was too short.
fn grown(mut ask: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; XATTR_BYTES];
    let count = match ask(&mut bytes) {
        Err(Errno::RANGE) => {
            bytes.resize(XATTR_BYTES_MAX, 0);
            ask(&mut bytes)?
        }
        other => other?,
    };
    bytes.truncate(count);
    Ok(bytes)
}

/// The bytes of a file.
impl Handle {
    /// Reads once; 0 is the end.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        rustix::io::pread(&self.0, buffer, offset)
    }

    /// Writes once.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        rustix::io::pwrite(&self.0, bytes, offset)
    }

    /// Makes room for `bytes`; the size is that, too.
    pub(super) fn reserve(&self, bytes: u64) -> Result<()> {
        rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes)
    }

    /// Gives the room of these bytes back: they read as zeros from then on.
    pub(super) fn punch_hole(&self, offset: u64, bytes: u64) -> Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.0, how, offset, bytes)
    }

    /// Asks the kernel to start writing what is dirty; it does not wait, and dirty pages stay in
    /// the cache (mm/fadvise.c: `POSIX_FADV_DONTNEED` starts write-back first).
    pub(super) fn write_behind(&self, offset: u64, bytes: u64) {
        let _ = rustix::fs::fadvise(&self.0, offset, NonZeroU64::new(bytes), Advice::DontNeed);
    }

    /// Makes this file share the blocks of another.
    pub(super) fn clone_from(&self, source: &Self) -> Result<()> {
        rustix::fs::ioctl_ficlone(&self.0, &source.0)
    }

    pub(super) fn lease(&self) -> Lease {
        lease::open_for_writing(&self.0)
    }
}

fn bits(mode: u16) -> Mode {
    Mode::from_bits_truncate(mode.into())
}

fn times(mtime: Time) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: omit, last_modification }
}
