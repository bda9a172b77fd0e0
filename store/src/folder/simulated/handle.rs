//! The daemon's descriptors on a simulated volume: the same calls as `kernel::Handle`.

use std::collections::VecDeque;
use std::sync::MutexGuard;
use std::time::Duration;

use rustix::io::Errno;

use super::events::Mask;
use super::names::{At, How};
use super::volume::{Body, Entry, Result};
use super::{FileSystem, Id, Link, Volume};
use crate::folder::kernel::{For, Rename};
use crate::folder::list::Listed;
use crate::folder::space::Space;
use crate::folder::stat::Stat;
use crate::lease::Lease;
use crate::name::Name;
use crate::time::Time;

/// An open descriptor of the daemon.
#[derive(Debug)]
pub(in crate::folder) struct Handle {
    fs: FileSystem,
    at: Entry,
    writes: bool,
    life: u64,
    boot: u64,
}

/// A listing: some entries at a time, so that names can change in between.
#[derive(Debug)]
pub(in crate::folder) struct Entries {
    dir: Handle,
    /// Behind this one it goes on, in the order of [`order`].
    after: Option<(u64, Vec<u8>)>,
}

/// Entries of one page.
const PAGE_ENTRIES: usize = 4;

/// Directories are in no order that a name would tell: here by a hash of it (FNV-1a).
fn order(name: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    name.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut volume = self.fs.volume();
        if volume.boot != self.boot {
            return;
        }
        if self.writes {
            volume.tell(self.at.link, self.at.id, Mask::CLOSE_WRITE);
        }
        volume.closed(self.at.id, self.writes);
    }
}

impl Handle {
    pub(super) fn root(fs: &FileSystem) -> Self {
        let volume = fs.volume();
        let (life, boot) = (volume.life, volume.boot);
        drop(volume);
        let at = Entry { id: Volume::ROOT, link: Link(0) };
        Self { fs: fs.clone(), at, writes: false, life, boot }.counted()
    }

    fn counted(self) -> Self {
        self.fs.volume().opened(self.at.id, self.writes);
        self
    }

    /// From now on it counts as open for writing.
    pub(super) fn may_write(&mut self) {
        let mut volume = self.fs.volume();
        volume.closed(self.at.id, self.writes);
        volume.opened(self.at.id, true);
        drop(volume);
        self.writes = true;
    }

    pub(super) fn id(&self) -> Id {
        self.at.id
    }

    pub(super) fn file_system(&self) -> &FileSystem {
        &self.fs
    }

    /// Begins a call: whatever the hook does comes first, then time passes.
    fn call(&self, what: &'static str, name: &[u8]) -> Result<MutexGuard<'_, Volume>> {
        let dead = |volume: &Volume| volume.life != self.life || volume.boot != self.boot;
        if dead(&self.fs.volume()) {
            return Err(Errno::IO);
        }
        self.fs.interrupt(what, |volume| volume.name_of(self.at, name))?;
        let mut volume = self.fs.volume();
        if dead(&volume) {
            return Err(Errno::IO);
        }
        volume.tick();
        Ok(volume)
    }

    fn with(&self, at: Entry, writes: bool) -> Self {
        Self { fs: self.fs.clone(), at, writes, life: self.life, boot: self.boot }.counted()
    }

    fn name<'n>(&self, name: &'n [u8]) -> At<'n> {
        At { dir: self.at.id, name }
    }
}

/// Opening and looking.
impl Handle {
    pub(in crate::folder) fn beneath(&self, path: &[u8], what: For) -> Result<Self> {
        let mut volume = self.call("openat2", path)?;
        if what == For::Making {
            let made = volume.make(self.name(path), Body::File, 0o600)?;
            drop(volume);
            return Ok(self.with(made, true));
        }
        let mut found = volume.walk(self.at.id, path)?;
        if found.link == Link(0) {
            found.link = self.at.link;
        }
        match (what, &volume.inode(found.id)?.body) {
            (For::Walking, Body::Directory { .. }) | (For::Looking, _) => {}
            (For::Walking, _) => return Err(Errno::NOTDIR),
            (_, Body::Symlink(_)) => return Err(Errno::LOOP),
            _ => {}
        }
        drop(volume);
        Ok(self.with(found, false))
    }

    pub(in crate::folder) fn above(&self) -> Result<Self> {
        let volume = self.call("openat", b"..")?;
        let Body::Directory { parent, .. } = volume.inode(self.at.id)?.body else {
            return Err(Errno::NOTDIR);
        };
        drop(volume);
        Ok(self.with(Entry { id: parent, link: Link(0) }, false))
    }

    pub(in crate::folder) fn duplicate(&self) -> Result<Self> {
        drop(self.call("fcntl", b"")?);
        Ok(self.with(self.at, self.writes))
    }

    pub(in crate::folder) fn stat(&self) -> Result<Stat> {
        self.call("statx", b"")?.stat(self.at.id)
    }

    pub(in crate::folder) fn stat_at(&self, name: &[u8]) -> Result<Stat> {
        let volume = self.call("statx", name)?;
        volume.stat(volume.entry(self.at.id, name)?.id)
    }

    pub(in crate::folder) fn read_link_at(&self, name: &[u8]) -> Result<Vec<u8>> {
        let volume = self.call("readlinkat", name)?;
        match &volume.inode(volume.entry(self.at.id, name)?.id)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    pub(in crate::folder) fn entries(&self) -> Result<Entries> {
        let volume = self.call("openat", b".")?;
        volume.entries(self.at.id)?;
        drop(volume);
        Ok(Entries { dir: self.with(self.at, false), after: None })
    }

    pub(in crate::folder) fn medium(&self) -> String {
        format!("simulated {}", self.fs.volume().boot)
    }

    #[expect(clippy::unused_self, reason = "as the kernel's")]
    pub(in crate::folder) fn file_system_magic(&self) -> Result<u32> {
        Err(Errno::NOSYS)
    }

    #[expect(clippy::unused_self, reason = "as the kernel's")]
    pub(in crate::folder) fn inode_flags(&self) -> Result<u32> {
        Err(Errno::NOTTY)
    }

    pub(in crate::folder) fn wall(&self) -> Duration {
        Duration::from_nanos(self.fs.volume().clock_ns)
    }

    pub(in crate::folder) fn space(&self) -> Result<Space> {
        let volume = self.call("fstatfs", b"")?;
        Ok(Space { total: volume.capacity_bytes, free: volume.free_bytes() })
    }
}

impl Entries {
    pub(in crate::folder) fn fill(&mut self, page: &mut VecDeque<Listed>) -> Result<u64> {
        let volume = self.dir.call("getdents64", b"")?;
        // Of a directory that was removed there is nothing to list.
        volume.is_there(self.dir.at.id)?;
        let entries = volume.entries(self.dir.at.id)?;
        let mut names: Vec<_> = entries.keys().map(|name| (order(name), name.clone())).collect();
        names.sort();
        let rest = names.into_iter().filter(|name| Some(name) > self.after.as_ref());
        let mut last = None;
        for key in rest.take(PAGE_ENTRIES) {
            if let Some(entry) = entries.get(&key.1)
                && let Ok(name) = Name::new(key.1.as_slice())
            {
                let inode = volume.inode(entry.id)?;
                page.push_back(Listed { name, kind: Some(inode.kind()), ino: inode.number });
            }
            last = Some(key);
        }
        drop(volume);
        self.after = last.or(self.after.take());
        Ok(0)
    }
}

/// Changing what is in a directory.
impl Handle {
    pub(in crate::folder) fn make_dir_at(&self, name: &[u8]) -> Result<()> {
        self.call("mkdirat", name)?.make_dir(self.name(name), 0o700).map(|_| ())
    }

    pub(in crate::folder) fn symlink_at(&self, target: &[u8], name: &[u8]) -> Result<()> {
        let mut volume = self.call("symlinkat", name)?;
        volume.make(self.name(name), Body::Symlink(target.to_vec()), 0o777).map(|_| ())
    }

    pub(in crate::folder) fn rename_at(
        &self,
        from: &[u8],
        dir: &Self,
        to: &[u8],
        how: Rename,
    ) -> Result<()> {
        let how = match how {
            Rename::NoReplace => How::NoReplace,
            Rename::Exchange => How::Exchange,
        };
        let what = if how == How::Exchange { "exchange" } else { "rename" };
        dir.call(what, to)?.rename(self.name(from), dir.name(to), how)
    }

    pub(in crate::folder) fn unlink_at(&self, name: &[u8]) -> Result<()> {
        self.call("unlinkat", name)?.unlink(self.name(name))
    }

    pub(in crate::folder) fn remove_dir_at(&self, name: &[u8]) -> Result<()> {
        self.call("rmdir", name)?.remove_dir(self.name(name))
    }

    pub(in crate::folder) fn sync(&self) -> Result<()> {
        self.call("fsync", b"")?.sync(self.at.id);
        Ok(())
    }

    pub(in crate::folder) fn sync_data(&self) -> Result<()> {
        self.call("fdatasync", b"")?.sync(self.at.id);
        Ok(())
    }

    pub(in crate::folder) fn sync_file_system(&self) -> Result<()> {
        self.call("syncfs", b"")?.sync_all();
        Ok(())
    }
}

/// Changing what is attached to an inode.
impl Handle {
    pub(in crate::folder) fn set_mode(&self, mode: u16) -> Result<()> {
        let mut volume = self.call("fchmod", b"")?;
        volume.attach(self.at.id, self.at.link, |inode| inode.mode = mode)
    }

    pub(in crate::folder) fn set_mtime(&self, mtime: Time) -> Result<()> {
        let mut volume = self.call("utimensat", b"")?;
        volume.attach(self.at.id, self.at.link, |inode| inode.mtime = mtime)
    }

    pub(in crate::folder) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let mut volume = self.call("fchownat", b"")?;
        volume.attach(self.at.id, self.at.link, |inode| {
            inode.uid = uid.unwrap_or(inode.uid);
            inode.gid = gid.unwrap_or(inode.gid);
        })
    }

    pub(in crate::folder) fn attributes(&self) -> Result<Vec<u8>> {
        let volume = self.call("listxattr", b"")?;
        let names = volume.inode(self.at.id)?.attributes.keys();
        Ok(names.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    pub(in crate::folder) fn attribute(&self, name: &[u8]) -> Result<Vec<u8>> {
        let volume = self.call("getxattr", b"")?;
        volume.inode(self.at.id)?.attributes.get(name).cloned().ok_or(Errno::NODATA)
    }

    pub(in crate::folder) fn remove_attribute(&self, name: &[u8]) -> Result<()> {
        let mut volume = self.call("removexattr", b"")?;
        if !volume.inode(self.at.id)?.attributes.contains_key(name) {
            return Err(Errno::NODATA);
        }
        volume.attach(self.at.id, self.at.link, |inode| {
            inode.attributes.remove(name);
        })
    }

    pub(in crate::folder) fn set_attribute(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let mut volume = self.call("setxattr", b"")?;
        volume.attach(self.at.id, self.at.link, |inode| {
            inode.attributes.insert(name.to_vec(), value.to_vec());
        })
    }
}

/// The bytes of a file.
impl Handle {
    pub(in crate::folder) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.call("pread", b"")?.read(self.at.id, buffer, offset)
    }

    pub(in crate::folder) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        let mut volume = self.call("pwrite", b"")?;
        volume.store(self.at.id, bytes, offset)?;
        volume.tell(self.at.link, self.at.id, Mask::MODIFY);
        Ok(bytes.len())
    }

    pub(in crate::folder) fn reserve(&self, bytes: u64) -> Result<()> {
        let len = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
        let mut volume = self.call("fallocate", b"")?;
        let held = volume.data.get(&self.at.id).ok_or(Errno::ISDIR)?.now.len();
        if held < len { volume.resize(self.at.id, len) } else { Ok(()) }
    }

    pub(super) fn resize(&self, bytes: u64) -> Result<()> {
        let len = usize::try_from(bytes).map_err(|_| Errno::FBIG)?;
        self.call("ftruncate", b"")?.resize(self.at.id, len)
    }

    pub(in crate::folder) fn clone_from(&self, source: &Self) -> Result<()> {
        let mut volume = self.call("ficlone", b"")?;
        if !volume.has_clones {
            return Err(Errno::OPNOTSUPP);
        }
        let bytes = volume.data.get(&source.at.id).ok_or(Errno::ISDIR)?.now.clone();
        volume.resize(self.at.id, bytes.len())?;
        volume.store(self.at.id, &bytes, 0)
    }

    pub(in crate::folder) fn lease(&self) -> Lease {
        match self.call("fcntl", b"") {
            Ok(volume) if !volume.has_leases => Lease::Unknown,
            Ok(volume) if volume.has_writers(self.at.id) => Lease::Busy,
            Ok(_) => Lease::Idle,
            Err(_) => Lease::Unknown,
        }
    }
}
