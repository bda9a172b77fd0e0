//! Changing what is in a directory: every call is one system call that either happened or not.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Dir, FolderError, Kind, RESOLVE, Result, Stat};
use crate::name::Name;
use crate::owner::Ids;
use crate::time::Time;

/// What a staged file is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// All its bytes.
    pub bytes: &'a [u8],
    /// What else it has.
    pub properties: Properties,
}

/// What a thing has beside its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Permission bits; set-id and sticky bits are masked on files.
    pub mode: u16,
    /// Time of last modification; not set on directories.
    pub mtime: Time,
    /// Whose it is; `None`: whose it is now, the daemon's own if it is new.
    pub owner: Option<Ids>,
}

impl Properties {
    /// Those of the daemon's own files: nobody else's business.
    pub const OURS: Self = Self { mode: 0o600, mtime: Time { secs: 0, nanos: 0 }, owner: None };
}

impl Dir {
    /// Makes a file that did not exist, mode 0600, open for reading and writing.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn create_new(&self, name: &Name) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat2(&self.fd, self.entry(name)?, flags | OFlags::NOFOLLOW, mode, RESOLVE)
            .map(File::from)
            .map_err(|errno| self.error(name, errno))
    }

    /// Makes a whole new file: content, owner, mode and time, in this order, so that nobody can
    /// ever read what the finished file would not let him. Not synced. On failure the partial
    /// file, which nobody else has seen, is removed again.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn write_new(&self, name: &Name, new: NewFile<'_>) -> Result<Stat> {
        let file = self.create_new(name)?;
        let written = (&file).write_all(new.bytes);
        written
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .and_then(|()| finish(&file, new.properties))
            .map_err(|errno| {
                let _ = rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty());
                self.error(name, errno)
            })
    }

    /// Gives a staged file its owner, mode and time, and looks at it.
    ///
    /// # Errors
    /// `Blocked` when it is not ours.
    pub fn finish_file(&self, name: &Name, file: &File, properties: Properties) -> Result<Stat> {
        finish(file, properties).map_err(|errno| self.error(name, errno))
    }

    /// Makes a directory of exactly this mode, whatever the umask is, and opens it. For our own
    /// directories: in one that others may write to, another could be put at the name in between.
    ///
    /// # Errors
    /// `Exists`, `Absent` (this directory was removed), `NoSpace`, `Blocked`.
    pub fn mkdir(&self, name: &Name, mode: u16) -> Result<Self> {
        rustix::fs::mkdirat(&self.fd, self.entry(name)?, Mode::RWXU)
            .map_err(|errno| self.error(name, errno))?;
        let dir = self.open_dir(name)?;
        rustix::fs::fchmod(&dir.fd, bits(Kind::Directory.mask_mode(mode)))
            .map_err(|errno| self.error(name, errno))?;
        Ok(dir)
    }

    /// Makes a symlink with this text, taken as it is.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn symlink(&self, name: &Name, target: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(target, &self.fd, self.entry(name)?)
            .map_err(|errno| self.error(name, errno))
    }

    /// Renames an entry into a free name.
    ///
    /// # Errors
    /// `Exists` when the name is taken (the user was first); `Absent` when the entry or a
    /// directory is gone; `Blocked` over a mount.
    pub fn rename_no_replace(&self, from: &Name, to_dir: &Self, to: &Name) -> Result<()> {
        self.rename(from, to_dir, to, RenameFlags::NOREPLACE)
    }

    /// Swaps two entries of any kinds in one step: no moment shows a missing or mixed one. Both
    /// inodes keep number and mtime; their ctime moves.
    ///
    /// # Errors
    /// `Absent` when either is gone; `Blocked` over a mount.
    pub fn exchange(&self, from: &Name, to_dir: &Self, to: &Name) -> Result<()> {
        self.rename(from, to_dir, to, RenameFlags::EXCHANGE)
    }

    /// Errors carry the target's path: that is where the user looks.
    fn rename(&self, from: &Name, to_dir: &Self, to: &Name, flags: RenameFlags) -> Result<()> {
        let (from, to_bytes) = (self.entry(from)?, to_dir.entry(to)?);
        rustix::fs::renameat_with(&self.fd, from, &to_dir.fd, to_bytes, flags)
            .map_err(|errno| to_dir.error(to, errno))
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// `WrongKind` for a directory, `Absent`, `Blocked`.
    pub fn unlink(&self, name: &Name) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, self.entry(name)?, AtFlags::empty())
            .map_err(|errno| self.error(name, errno))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory`, `Absent`, `Blocked`.
    pub fn rmdir(&self, name: &Name) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, self.entry(name)?, AtFlags::REMOVEDIR)
            .map_err(|errno| self.error(name, errno))
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd)
            .map_err(|errno| FolderError::from_errno(self.path.clone(), errno))
    }
}

/// chown(2) takes set-id bits away, so the owner goes first.
fn finish(file: impl AsFd + Copy, properties: Properties) -> std::result::Result<Stat, Errno> {
    let Properties { mode, mtime, owner } = properties;
    if let Some(ids) = owner {
        super::attach::give(file, None, ids)?;
    }
    rustix::fs::fchmod(file, bits(Kind::File.mask_mode(mode)))?;
    rustix::fs::futimens(file, &times(mtime))?;
    Stat::of(file)
}

pub(super) fn bits(mode: u16) -> Mode {
    Mode::from_bits_truncate(mode.into())
}

pub(super) fn times(mtime: Time) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: omit, last_modification }
}
