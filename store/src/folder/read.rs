//! Reading what a user has in the folder, without trusting that it stays.

use rustix::io::Errno;

use super::{Dir, File, FolderError, For, Kind, Result, Stat};
use crate::name::Name;

/// How often something that changes under us is read again before it is called unstable.
pub const READ_TRIES_MAX: u32 = 3;

impl Dir {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `Absent`; `WrongKind` for anything but a regular file; `Blocked` without the right.
    pub fn open_read(&self, name: &Name) -> Result<File> {
        // RACE: a device put here between the caller's look and this open is opened once for
        // reading; only root can make one, and it is closed unread.
        let handle = self.open_entry(name, For::Reading).map_err(|errno| match errno {
            // A symlink, a socket or a device without a driver: there, but no file.
            Errno::LOOP | Errno::NXIO | Errno::NODEV => {
                FolderError::WrongKind(self.path.join(name))
            }
            other => self.error(name, other),
        })?;
        let stat = handle.stat().map_err(|errno| self.error(name, errno))?;
        match stat.kind {
            Kind::File => Ok(File { handle }),
            _ => Err(FolderError::WrongKind(self.path.join(name))),
        }
    }

    /// Reads a whole regular file of at most `bytes_max`, so that the look and the bytes belong
    /// together: a look before equals the look after (fault 42). A larger one gives no bytes.
    ///
    /// # Errors
    /// As [`Self::open_read`]; `Unstable` when it changed during every try.
    pub fn read_small(&self, name: &Name, bytes_max: u64) -> Result<(Stat, Option<Vec<u8>>)> {
        let file = self.open_read(name)?;
        self.read_small_from(name, &file, bytes_max)
    }

    /// As [`Self::read_small`], from a file that [`Self::open_read`] opened.
    ///
    /// # Errors
    /// As [`Self::read_small`].
    pub fn read_small_from(
        &self,
        name: &Name,
        file: &File,
        bytes_max: u64,
    ) -> Result<(Stat, Option<Vec<u8>>)> {
        let failed = |errno| self.error(name, errno);
        for _ in 0..READ_TRIES_MAX {
            let before = file.stat().map_err(failed)?;
            if before.size > bytes_max {
                return Ok((before, None));
            }
            let bytes = read_from_start(file, before.size).map_err(failed)?;
            let after = file.stat().map_err(failed)?;
            let whole = u64::try_from(bytes.len()).is_ok_and(|read| read == before.size);
            if whole && after.same_to_ctime(&before) {
                return Ok((after, Some(bytes)));
            }
        }
        Err(FolderError::Unstable(self.path.join(name)))
    }

    /// Reads what a symlink says, together with a look at that very link.
    ///
    /// # Errors
    /// `WrongKind` for anything else; `Unstable` when it is replaced again and again.
    pub fn read_link(&self, name: &Name) -> Result<(Stat, Vec<u8>)> {
        for _ in 0..READ_TRIES_MAX {
            let before = self.stat(name)?;
            if before.kind != Kind::Symlink {
                break;
            }
            let target = match self.handle.read_link_at(self.entry(name)?) {
                Ok(target) => target,
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(self.error(name, errno)),
            };
            if self.stat(name)?.same_to_ctime(&before) {
                return Ok((before, target));
            }
        }
        match self.stat(name)?.kind {
            Kind::Symlink => Err(FolderError::Unstable(self.path.join(name))),
            _ => Err(FolderError::WrongKind(self.path.join(name))),
        }
    }
}

/// Reads from offset 0 up to one byte more than expected, so that growth shows.
fn read_from_start(file: &File, expected: u64) -> std::result::Result<Vec<u8>, Errno> {
    let capacity = usize::try_from(expected).map_err(|_| Errno::FBIG)?.saturating_add(1);
    let read = file.read_up_to(capacity);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
