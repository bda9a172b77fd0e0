//! What users and their programs do on a simulated volume: by paths from its root, and through
//! descriptors that stay open.

use rustix::io::Errno;

use super::events::Mask;
use super::names::{At, How};
use super::volume::{Body, Entry, Result};
use super::{FileSystem, Link, Volume};
use crate::folder::{Kind, Stat};
use crate::time::Time;

/// A file that a program has open for writing, or mapped.
#[derive(Debug)]
pub struct Open {
    fs: FileSystem,
    at: Entry,
    boot: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut volume = self.fs.volume();
        if volume.boot == self.boot {
            // The file is told of as closed when nothing holds it open any more.
            volume.tell(self.at.link, self.at.id, Mask::CLOSE_WRITE);
            volume.closed(self.at.id, true);
        }
    }
}

impl Open {
    /// Writes from an offset on.
    ///
    /// # Errors
    /// `NOSPC`; `IO` after a power cut.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.store(bytes, offset)?;
        self.fs.volume().tell(self.at.link, self.at.id, Mask::MODIFY);
        Ok(())
    }

    /// Writes at the end.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    pub fn append(&self, bytes: &[u8]) -> Result<()> {
        let size = self.stat()?.size;
        self.write_at(bytes, size)
    }

    /// Stores through a mapping: no event tells of it.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    pub fn store(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut volume = self.fs.volume();
        if volume.boot != self.boot {
            return Err(Errno::IO);
        }
        volume.tick();
        volume.store(self.at.id, bytes, offset)
    }

    /// Cuts it.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    pub fn truncate(&self, len: usize) -> Result<()> {
        let mut volume = self.fs.volume();
        if volume.boot != self.boot {
            return Err(Errno::IO);
        }
        volume.tick();
        volume.resize(self.at.id, len)?;
        volume.tell(self.at.link, self.at.id, Mask::MODIFY);
        Ok(())
    }

    /// All of its bytes.
    ///
    /// # Errors
    /// `IO` after a power cut.
    pub fn read(&self) -> Result<Vec<u8>> {
        let volume = self.fs.volume();
        let data = volume.data.get(&self.at.id).filter(|_| volume.boot == self.boot);
        data.map(|data| data.now.clone()).ok_or(Errno::IO)
    }

    /// Looks at it.
    ///
    /// # Errors
    /// `IO` after a power cut.
    pub fn stat(&self) -> Result<Stat> {
        let volume = self.fs.volume();
        if volume.boot == self.boot { volume.stat(self.at.id) } else { Err(Errno::IO) }
    }
}

impl Volume {
    /// The directory and the last name of a path.
    fn split<'p>(&self, path: &'p str) -> Result<At<'p>> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(Errno::EXIST);
        }
        let dir = self.walk(Self::ROOT, dir.as_bytes())?.id;
        self.entries(dir)?;
        Ok(At { dir, name: name.as_bytes() })
    }

    fn found(&self, path: &str) -> Result<Entry> {
        let at = self.split(path)?;
        self.entry(at.dir, at.name)
    }

    /// The path of something in a directory, for stories.
    pub(super) fn name_of(&self, at: Entry, name: &[u8]) -> String {
        let mut path = String::from_utf8_lossy(name).into_owned();
        let mut id = at.id;
        if !matches!(self.inode(id).map(super::volume::Inode::kind), Ok(Kind::Directory)) {
            let Some((dir, name)) = self.links.get(&at.link) else { return path };
            (id, path) = (*dir, String::from_utf8_lossy(name).into_owned());
        }
        while id != Self::ROOT {
            let Ok(Body::Directory { parent, .. }) = self.inode(id).map(|inode| &inode.body) else {
                break;
            };
            let entries = self.entries(*parent).ok();
            let own = entries.and_then(|all| all.iter().find(|(_, entry)| entry.id == id));
            let Some((own, _)) = own else { return path };
            path = format!("{}/{path}", String::from_utf8_lossy(own));
            id = *parent;
        }
        path
    }
}

/// What users do. Symlinks on the way are not followed; every call may be refused as Linux does.
impl FileSystem {
    fn user(&self) -> std::sync::MutexGuard<'_, Volume> {
        let mut volume = self.volume();
        volume.tick();
        volume
    }

    /// Opens a file for writing, as it is; makes it if it is not there.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, path: &str) -> Result<Open> {
        let mut volume = self.user();
        let at = volume.split(path)?;
        let entry = match volume.entry(at.dir, at.name) {
            Err(Errno::NOENT) => volume.make(at, Body::File, 0o644)?,
            other => other?,
        };
        match volume.inode(entry.id)?.kind() {
            Kind::File => {}
            Kind::Directory => return Err(Errno::ISDIR),
            Kind::Symlink => return Err(Errno::LOOP),
            Kind::Special => return Err(Errno::NXIO),
        }
        volume.opened(entry.id, true);
        let boot = volume.boot;
        drop(volume);
        Ok(Open { fs: self.clone(), at: entry, boot })
    }

    /// Writes a whole file in place: open, cut, write, close.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.open(path)?;
        if file.stat()?.size > 0 {
            file.truncate(0)?;
        }
        file.write_at(bytes, 0)
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// As open(2).
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let volume = self.volume();
        let id = volume.found(path)?.id;
        volume.data.get(&id).map(|data| data.now.clone()).ok_or(Errno::ISDIR)
    }

    /// What a symlink says.
    ///
    /// # Errors
    /// As readlink(2).
    pub fn read_link(&self, path: &str) -> Result<Vec<u8>> {
        let volume = self.volume();
        match &volume.inode(volume.found(path)?.id)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    /// As `lstat(2)`.
    ///
    /// # Errors
    /// As lstat(2).
    pub fn stat(&self, path: &str) -> Result<Stat> {
        let volume = self.volume();
        volume.stat(volume.found(path)?.id)
    }

    /// The names in a directory, in order.
    ///
    /// # Errors
    /// As opendir(3).
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        let volume = self.volume();
        let dir = volume.walk(Volume::ROOT, path.as_bytes())?.id;
        let names = volume.entries(dir)?.keys();
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// As mkdir(2).
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make_dir(&self, path: &str) -> Result<()> {
        let mut volume = self.user();
        let at = volume.split(path)?;
        volume.make_dir(at, 0o755).map(|_| ())
    }

    /// As rmdir(2).
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn remove_dir(&self, path: &str) -> Result<()> {
        let mut volume = self.user();
        let at = volume.split(path)?;
        volume.remove_dir(at)
    }

    /// As unlink(2).
    ///
    /// # Errors
    /// As unlink(2).
    pub fn unlink(&self, path: &str) -> Result<()> {
        let mut volume = self.user();
        let at = volume.split(path)?;
        volume.unlink(at)
    }

    /// As rename(2): what was there is replaced.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut volume = self.user();
        let (from, to) = (volume.split(from)?, volume.split(to)?);
        volume.rename(from, to, How::Replace)
    }

    /// As renameat2(2) with `RENAME_EXCHANGE`.
    ///
    /// # Errors
    /// As renameat2(2).
    pub fn exchange(&self, one: &str, other: &str) -> Result<()> {
        let mut volume = self.user();
        let (one, other) = (volume.split(one)?, volume.split(other)?);
        volume.rename(one, other, How::Exchange)
    }

    /// As link(2).
    ///
    /// # Errors
    /// As link(2).
    pub fn hard_link(&self, from: &str, to: &str) -> Result<()> {
        let mut volume = self.user();
        let id = volume.found(from)?.id;
        let at = volume.split(to)?;
        volume.link(id, at)
    }

    /// As symlink(2).
    ///
    /// # Errors
    /// As symlink(2).
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let mut volume = self.user();
        let at = volume.split(path)?;
        volume.make(at, Body::Symlink(target.as_bytes().to_vec()), 0o777).map(|_| ())
    }

    /// As mkfifo(3).
    ///
    /// # Errors
    /// As mkfifo(3).
    pub fn make_pipe(&self, path: &str) -> Result<()> {
        let mut volume = self.user();
        let at = volume.split(path)?;
        volume.make(at, Body::Special, 0o644).map(|_| ())
    }

    /// As chmod(2); no link is followed.
    ///
    /// # Errors
    /// As chmod(2).
    pub fn set_mode(&self, path: &str, mode: u16) -> Result<()> {
        let mut volume = self.user();
        let Entry { id, link } = volume.found(path)?;
        if volume.inode(id)?.kind() == Kind::Symlink {
            return Err(Errno::LOOP);
        }
        volume.attach(id, link, |inode| inode.mode = mode)
    }

    /// As lsetxattr(2).
    ///
    /// # Errors
    /// As lsetxattr(2).
    pub fn set_attribute(&self, path: &str, name: &str, value: &[u8]) -> Result<()> {
        let mut volume = self.user();
        let Entry { id, link } = volume.found(path)?;
        volume.attach(id, link, |inode| {
            inode.attributes.insert(name.as_bytes().to_vec(), value.to_vec());
        })
    }

    /// As lremovexattr(2).
    ///
    /// # Errors
    /// As lremovexattr(2).
    pub fn remove_attribute(&self, path: &str, name: &str) -> Result<()> {
        let mut volume = self.user();
        let Entry { id, link } = volume.found(path)?;
        if !volume.inode(id)?.attributes.contains_key(name.as_bytes()) {
            return Err(Errno::NODATA);
        }
        volume.attach(id, link, |inode| {
            inode.attributes.remove(name.as_bytes());
        })
    }

    /// What users attached to something, by name.
    ///
    /// # Errors
    /// As llistxattr(2).
    pub fn attributes(&self, path: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let volume = self.volume();
        let all = &volume.inode(volume.found(path)?.id)?.attributes;
        let in_text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        Ok(all.iter().map(|(name, value)| (in_text(name), value.clone())).collect())
    }

    /// As utimensat(2), of the name itself.
    ///
    /// # Errors
    /// As utimensat(2).
    pub fn set_mtime(&self, path: &str, mtime: Time) -> Result<()> {
        let mut volume = self.user();
        let Entry { id, link } = volume.found(path)?;
        volume.attach(id, link, |inode| inode.mtime = mtime)
    }

    /// Whether a file has another name or an open descriptor for writing.
    #[must_use]
    pub fn is_open(&self, path: &str) -> bool {
        let volume = self.volume();
        volume.found(path).is_ok_and(|entry| volume.has_writers(entry.id) && entry.link != Link(0))
    }
}
