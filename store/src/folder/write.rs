//! Changing what is in a directory: every call is one system call that either happened or not.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Dir, FolderError, Kind, RESOLVE, Result, Stat, proc_path};
use crate::name::Name;
use crate::time::Time;

/// What a staged file is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// All its bytes.
    pub bytes: &'a [u8],
    /// Permission bits; set-id and sticky bits are masked.
    pub mode: u16,
    /// Time of last modification.
    pub mtime: Time,
}

impl Dir {
    /// Makes a file that did not exist, mode 0600, open for reading and writing.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn create_new(&self, name: &Name) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat2(&self.fd, name.as_bytes(), flags | OFlags::NOFOLLOW, mode, RESOLVE)
            .map(File::from)
            .map_err(|errno| self.error(name, errno))
    }

    /// Makes a whole new file: content, mode and time. Not synced. On failure the partial file,
    /// which nobody else has seen, is removed again.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn write_new(&self, name: &Name, new: NewFile<'_>) -> Result<Stat> {
        let file = self.create_new(name)?;
        let written = (&file).write_all(new.bytes);
        written
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .and_then(|()| finish(&file, new.mode, new.mtime))
            .map_err(|errno| {
                let _ = rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty());
                self.error(name, errno)
            })
    }

    /// Gives a staged file its mode and time, and looks at it.
    ///
    /// # Errors
    /// `Blocked` when it is not ours.
    pub fn finish_file(&self, name: &Name, file: &File, mode: u16, mtime: Time) -> Result<Stat> {
        finish(file, mode, mtime).map_err(|errno| self.error(name, errno))
    }

    /// Makes a directory of exactly this mode, whatever the umask is, and opens it.
    ///
    /// # Errors
    /// `Exists`, `Absent` (this directory was removed), `NoSpace`, `Blocked`.
    pub fn mkdir(&self, name: &Name, mode: u16) -> Result<Self> {
        rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::RWXU)
            .map_err(|errno| self.error(name, errno))?;
        // RACE: a user may put another directory here in between; at worst that one gets our mode.
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
        rustix::fs::symlinkat(target, &self.fd, name.as_bytes())
            .map_err(|errno| self.error(name, errno))
    }

    /// Sets the permission bits of a file or directory; of a file never set-id or sticky. Needs
    /// no right to read it, and never follows a symlink.
    ///
    /// # Errors
    /// `WrongKind` for a symlink or special, `Absent`, `Blocked` without ownership.
    pub fn set_mode(&self, name: &Name, mode: u16) -> Result<()> {
        let failed = |errno| self.error(name, errno);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = self.open_entry(name, flags).map_err(failed)?;
        let kind = Stat::of(&entry).map_err(failed)?.kind;
        if !matches!(kind, Kind::File | Kind::Directory) {
            return Err(FolderError::WrongKind(self.path.join(name)));
        }
        // fchmod(2) refuses O_PATH descriptors and fchmodat2(2) is younger than our kernels; the
        // magic link leads to exactly the inode that was just looked at.
        let mode = bits(kind.mask_mode(mode));
        rustix::fs::chmodat(rustix::fs::CWD, proc_path(&entry), mode, AtFlags::empty())
            .map_err(failed)
    }

    /// Sets the time of last modification of an entry, of a symlink itself too.
    ///
    /// # Errors
    /// `Absent`, `Blocked` without ownership.
    pub fn set_mtime(&self, name: &Name, mtime: Time) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&self.fd, name.as_bytes(), &times(mtime), flags)
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
        let (from, to_bytes) = (from.as_bytes(), to.as_bytes());
        rustix::fs::renameat_with(&self.fd, from, &to_dir.fd, to_bytes, flags)
            .map_err(|errno| to_dir.error(to, errno))
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// `WrongKind` for a directory, `Absent`, `Blocked`.
    pub fn unlink(&self, name: &Name) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty())
            .map_err(|errno| self.error(name, errno))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory`, `Absent`, `Blocked`.
    pub fn rmdir(&self, name: &Name) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::REMOVEDIR)
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

fn finish(file: impl AsFd + Copy, mode: u16, mtime: Time) -> std::result::Result<Stat, Errno> {
    rustix::fs::fchmod(file, bits(Kind::File.mask_mode(mode)))?;
    rustix::fs::futimens(file, &times(mtime))?;
    Stat::of(file)
}

fn bits(mode: u16) -> Mode {
    Mode::from_bits_truncate(mode.into())
}

fn times(mtime: Time) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: omit, last_modification }
}
