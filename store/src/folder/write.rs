//! Changing what is in a directory: every call is one system call that either happened or not.

use rustix::io::Errno;

use super::kernel::Rename;
use super::{Dir, File, FolderError, For, Kind, Result, Stat};
use crate::name::Name;
use crate::owner::Ids;
use crate::time::Time;
use crate::xattr::Xattrs;

/// What a staged file is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// All its bytes.
    pub bytes: &'a [u8],
    /// What else it has.
    pub properties: Properties,
    /// The attributes of users that it has.
    pub xattrs: &'a Xattrs,
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
        let opened = self.handle.beneath(self.entry(name)?, For::Making);
        opened.map(|handle| File { handle }).map_err(|errno| self.error(name, errno))
    }

    /// Makes a whole new file: content, owner, attributes of users, mode and time, in this order, so that nobody can
    /// ever read what the finished file would not let him. Not synced. On failure the partial
    /// file, which nobody else has seen, is removed again.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn write_new(&self, name: &Name, new: NewFile<'_>) -> Result<Stat> {
        let file = self.create_new(name)?;
        let written = file.write_all_at(new.bytes, 0);
        written
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .and_then(|()| finish(&file, new.properties, new.xattrs))
            .map_err(|errno| {
                let _ = self.handle.unlink_at(name.as_bytes());
                self.error(name, errno)
            })
    }

    /// Gives a staged file its owner, attributes of users, mode and time, and looks at it.
    ///
    /// # Errors
    /// `Blocked` when it is not ours.
    pub fn finish_file(
        &self,
        name: &Name,
        file: &File,
        properties: Properties,
        xattrs: &Xattrs,
    ) -> Result<Stat> {
        finish(file, properties, xattrs).map_err(|errno| self.error(name, errno))
    }

    /// Makes a directory of exactly this mode, whatever the umask is, and opens it. For our own
    /// directories: in one that others may write to, another could be put at the name in between.
    ///
    /// # Errors
    /// `Exists`, `Absent` (this directory was removed), `NoSpace`, `Blocked`.
    pub fn mkdir(&self, name: &Name, mode: u16) -> Result<Self> {
        self.handle.make_dir_at(self.entry(name)?).map_err(|errno| self.error(name, errno))?;
        let dir = self.open_dir(name)?;
        dir.handle
            .set_mode(Kind::Directory.mask_mode(mode))
            .map_err(|errno| self.error(name, errno))?;
        Ok(dir)
    }

    /// Makes a symlink with this text, taken as it is.
    ///
    /// # Errors
    /// `Exists`, `NoSpace`, `Blocked`.
    pub fn symlink(&self, name: &Name, target: &[u8]) -> Result<()> {
        let made = self.handle.symlink_at(target, self.entry(name)?);
        made.map_err(|errno| self.error(name, errno))
    }

    /// Renames an entry into a free name.
    ///
    /// # Errors
    /// `Exists` when the name is taken (the user was first); `Absent` when the entry or a
    /// directory is gone; `Blocked` over a mount.
    pub fn rename_no_replace(&self, from: &Name, to_dir: &Self, to: &Name) -> Result<()> {
        self.rename(from, to_dir, to, Rename::NoReplace)
    }

    /// Swaps two entries of any kinds in one step: no moment shows a missing or mixed one. Both
    /// inodes keep number and mtime; their ctime moves.
    ///
    /// # Errors
    /// `Absent` when either is gone; `Blocked` over a mount.
    pub fn exchange(&self, from: &Name, to_dir: &Self, to: &Name) -> Result<()> {
        self.rename(from, to_dir, to, Rename::Exchange)
    }

    /// Errors carry the target's path: that is where the user looks.
    fn rename(&self, from: &Name, to_dir: &Self, to: &Name, how: Rename) -> Result<()> {
        let (from, to_bytes) = (self.entry(from)?, to_dir.entry(to)?);
        let renamed = self.handle.rename_at(from, &to_dir.handle, to_bytes, how);
        renamed.map_err(|errno| to_dir.error(to, errno))
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// `WrongKind` for a directory, `Absent`, `Blocked`.
    pub fn unlink(&self, name: &Name) -> Result<()> {
        self.handle.unlink_at(self.entry(name)?).map_err(|errno| self.error(name, errno))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory`, `Absent`, `Blocked`.
    pub fn rmdir(&self, name: &Name) -> Result<()> {
        self.handle.remove_dir_at(self.entry(name)?).map_err(|errno| self.error(name, errno))
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<()> {
        self.handle.sync().map_err(|errno| FolderError::from_errno(self.path.clone(), errno))
    }

    /// Makes everything durable on the file system of this directory.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync_file_system(&self) -> Result<()> {
        let synced = self.handle.sync_file_system();
        synced.map_err(|errno| FolderError::from_errno(self.path.clone(), errno))
    }
}

/// chown(2) takes set-id bits away, so the owner goes first.
fn finish(
    file: &File,
    properties: Properties,
    xattrs: &Xattrs,
) -> std::result::Result<Stat, Errno> {
    let Properties { mode, mtime, owner } = properties;
    if let Some(ids) = owner {
        super::attach::give(&file.handle, None, ids)?;
    }
    // Before the mode: of a file that may not be written to nobody but root can set any.
    super::xattrs::change(&file.handle, Xattrs::NONE, xattrs)?;
    file.handle.set_mode(Kind::File.mask_mode(mode))?;
    file.handle.set_mtime(mtime)?;
    file.stat()
}
