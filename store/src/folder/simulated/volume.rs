//! What the simulated file system is made of, and what is done to one inode.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::io::Errno;

use super::events::{Mask, Queues};
use crate::folder::{Kind, Stat};
use crate::time::Time;

pub(super) type Result<T> = std::result::Result<T, Errno>;

/// An inode, by a number that is never used again. What is shown (`Inode::number`) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub(super) u64);

/// A name as the kernel's directory cache has it: it goes along when it is renamed, and is gone when
/// it is unlinked. A descriptor remembers by which one it was opened; events are told by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Link(pub(super) u64);

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) link: Link,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    File,
    Directory { entries: BTreeMap<Vec<u8>, Entry>, parent: Id },
    Symlink(Vec<u8>),
    Special,
}

/// An inode, without the bytes of a file.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) body: Body,
    pub(super) btime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Inode {
    pub(super) fn kind(&self) -> Kind {
        match self.body {
            Body::File => Kind::File,
            Body::Directory { .. } => Kind::Directory,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special => Kind::Special,
        }
    }
}

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) now: Vec<u8>,
    /// As of the last sync of it, if there was one.
    pub(super) synced: Option<Vec<u8>>,
}

/// Who has an inode open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opens {
    pub(super) all: u32,
    /// For writing, shared mappings that may be written to among them.
    pub(super) writers: u32,
}

/// The inodes at one moment. What is in it is shared between moments.
pub(super) type Inodes = BTreeMap<Id, Arc<Inode>>;

/// Bytes of a volume that is not asked to be small.
const CAPACITY_BYTES: u64 = 1 << 40;
/// Where the clock begins: 2023-11-14.
const BEGIN_NS: u64 = 1_700_000_000_000_000_000;
/// What one call takes.
const CALL_NS: u64 = 1_000;
/// The first inode number for anything but the root (ext4 gives out these).
const NUMBER_FIRST: u64 = 12;

/// One file system, everything in it, and who is told of changes.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) inodes: Inodes,
    pub(super) data: BTreeMap<Id, Data>,
    pub(super) opens: BTreeMap<Id, Opens>,
    pub(super) links: BTreeMap<Link, (Id, Vec<u8>)>,
    pub(super) queues: Queues,
    /// States that a power cut may lead back to, oldest first; the first is durable.
    pub(super) trail: Vec<Inodes>,
    pub(super) clock_ns: u64,
    /// Stamps are multiples of this.
    pub(super) stamp_ns: u64,
    pub(super) capacity_bytes: u64,
    /// Grows with each power cut: what was open before is not any more.
    pub(super) boot: u64,
    /// Grows when the daemon dies: its descriptors do nothing any more.
    pub(super) life: u64,
    /// Events that wait in a queue, and watches on it, at most.
    pub(super) queue_max: usize,
    pub(super) watches_max: usize,
    pub(super) has_leases: bool,
    pub(super) has_clones: bool,
    next: u64,
}

impl Volume {
    pub(super) const ROOT: Id = Id(1);

    pub(super) fn new() -> Self {
        let mut volume = Self {
            inodes: BTreeMap::new(),
            data: BTreeMap::new(),
            opens: BTreeMap::new(),
            links: BTreeMap::new(),
            queues: Queues::default(),
            trail: Vec::new(),
            clock_ns: BEGIN_NS,
            stamp_ns: 1,
            capacity_bytes: CAPACITY_BYTES,
            boot: 1,
            life: 1,
            queue_max: usize::MAX,
            watches_max: usize::MAX,
            has_leases: true,
            has_clones: false,
            next: 2,
        };
        let body = Body::Directory { entries: BTreeMap::new(), parent: Self::ROOT };
        let mut root = volume.fresh(body, 0o755, 2);
        root.nlink = 2;
        volume.inodes.insert(Self::ROOT, Arc::new(root));
        volume.commit();
        volume
    }

    pub(super) fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A call begins: time passes.
    pub(super) fn tick(&mut self) {
        self.clock_ns += CALL_NS;
    }

    pub(super) fn now(&self) -> Time {
        let ns = self.clock_ns - self.clock_ns % self.stamp_ns.max(1);
        let (secs, nanos) = (ns / 1_000_000_000, ns % 1_000_000_000);
        let secs = i64::try_from(secs).unwrap_or(i64::MAX);
        Time { secs, nanos: u32::try_from(nanos).unwrap_or(0) }
    }

    /// The lowest number that is free, as ext4 hands them out: one that was just given back comes
    /// first.
    pub(super) fn free_number(&self) -> u64 {
        let mut used: Vec<_> = self.inodes.values().map(|inode| inode.number).collect();
        used.sort_unstable();
        let mut number = NUMBER_FIRST;
        for taken in used.into_iter().filter(|taken| *taken >= NUMBER_FIRST) {
            if taken != number {
                break;
            }
            number += 1;
        }
        number
    }

    pub(super) fn fresh(&self, body: Body, mode: u16, number: u64) -> Inode {
        let now = self.now();
        Inode {
            number,
            body,
            btime: now,
            mtime: now,
            ctime: now,
            mode,
            uid: 0,
            gid: 0,
            nlink: 0,
            attributes: BTreeMap::new(),
        }
    }

    pub(super) fn inode(&self, id: Id) -> Result<&Inode> {
        self.inodes.get(&id).map(|inode| &**inode).ok_or(Errno::IO)
    }

    pub(super) fn inode_mut(&mut self, id: Id) -> Result<&mut Inode> {
        self.inodes.get_mut(&id).map(Arc::make_mut).ok_or(Errno::IO)
    }

    pub(super) fn entries(&self, dir: Id) -> Result<&BTreeMap<Vec<u8>, Entry>> {
        match &self.inode(dir)?.body {
            Body::Directory { entries, .. } => Ok(entries),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn entries_mut(&mut self, dir: Id) -> Result<&mut BTreeMap<Vec<u8>, Entry>> {
        match &mut self.inode_mut(dir)?.body {
            Body::Directory { entries, .. } => Ok(entries),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn entry(&self, dir: Id, name: &[u8]) -> Result<Entry> {
        if name.len() > crate::name::NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.entries(dir)?.get(name).copied().ok_or(Errno::NOENT)
    }

    /// Walks a path below a directory as `openat2` is told to: no symlink but the last name.
    pub(super) fn walk(&self, from: Id, path: &[u8]) -> Result<Entry> {
        let mut at = Entry { id: from, link: Link(0) };
        for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            match self.inode(at.id)?.body {
                Body::Directory { .. } => at = self.entry(at.id, name)?,
                Body::Symlink(_) => return Err(Errno::LOOP),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    pub(super) fn stat(&self, id: Id) -> Result<Stat> {
        let inode = self.inode(id)?;
        let len = match &inode.body {
            Body::File => self.data.get(&id).map_or(0, |data| data.now.len()),
            Body::Symlink(target) => target.len(),
            Body::Directory { .. } => 4096,
            Body::Special => 0,
        };
        Ok(Stat {
            kind: inode.kind(),
            ino: inode.number,
            btime: inode.btime,
            size: u64::try_from(len).unwrap_or(u64::MAX),
            mtime: inode.mtime,
            ctime: inode.ctime,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            dev: 7,
        })
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let bytes: usize = self.data.values().map(|data| data.now.len()).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    /// Notes a state of the names that a power cut may lead back to.
    pub(super) fn changed(&mut self) {
        self.trail.push(self.inodes.clone());
        // What is older was committed by the kernel's own timer.
        if self.trail.len() > super::power::TRAIL_MAX {
            self.trail.remove(0);
        }
    }

    /// All names as they are now are durable, as after any sync of a journaling file system.
    pub(super) fn commit(&mut self) {
        self.trail.clear();
        self.trail.push(self.inodes.clone());
    }

    pub(super) fn opened(&mut self, id: Id, writes: bool) {
        let opens = self.opens.entry(id).or_default();
        opens.all += 1;
        opens.writers += u32::from(writes);
    }

    pub(super) fn closed(&mut self, id: Id, writes: bool) {
        if let Some(opens) = self.opens.get_mut(&id) {
            opens.all = opens.all.saturating_sub(1);
            opens.writers = opens.writers.saturating_sub(u32::from(writes));
        }
        self.free_unused(id);
    }

    /// An inode without a name that nobody has open is no more.
    pub(super) fn free_unused(&mut self, id: Id) {
        let unused = self.opens.get(&id).is_none_or(|opens| opens.all == 0);
        if unused && self.inode(id).is_ok_and(|inode| inode.nlink == 0) {
            self.inodes.remove(&id);
            self.data.remove(&id);
            self.opens.remove(&id);
            self.queues.inode_gone(id);
        }
    }

    pub(super) fn has_writers(&self, id: Id) -> bool {
        self.opens.get(&id).is_some_and(|opens| opens.writers > 0)
    }

    /// Tells whoever watches the directory in which this name is.
    pub(super) fn tell(&mut self, link: Link, id: Id, mask: Mask) {
        let is_dir = self.inode(id).is_ok_and(|inode| inode.kind() == Kind::Directory);
        if let Some((dir, name)) = self.links.get(&link) {
            self.queues.push(*dir, name, mask, 0, is_dir);
        }
    }
}

/// The bytes of one file.
impl Volume {
    fn bytes_mut(&mut self, id: Id) -> Result<&mut Vec<u8>> {
        self.data.get_mut(&id).map(|data| &mut data.now).ok_or(Errno::ISDIR)
    }

    pub(super) fn read(&self, id: Id, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let data = self.data.get(&id).ok_or(Errno::ISDIR)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.now.len());
        let rest = data.now.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        let (Some(to), Some(part)) = (buffer.get_mut(..count), rest.get(..count)) else {
            return Err(Errno::IO);
        };
        to.copy_from_slice(part);
        Ok(count)
    }

    /// Writes without an event, as through a mapping; the stamps move.
    pub(super) fn store(&mut self, id: Id, bytes: &[u8], offset: u64) -> Result<()> {
        let from = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        let end = from.checked_add(bytes.len()).ok_or(Errno::FBIG)?;
        self.make_room(id, end)?;
        let data = self.bytes_mut(id)?;
        if data.len() < end {
            data.resize(end, 0);
        }
        data.get_mut(from..end).ok_or(Errno::IO)?.copy_from_slice(bytes);
        self.written(id)
    }

    pub(super) fn resize(&mut self, id: Id, len: usize) -> Result<()> {
        self.make_room(id, len)?;
        self.bytes_mut(id)?.resize(len, 0);
        self.written(id)
    }

    fn make_room(&self, id: Id, len: usize) -> Result<()> {
        let held = self.data.get(&id).map_or(0, |data| data.now.len());
        let more = u64::try_from(len.saturating_sub(held)).unwrap_or(u64::MAX);
        if more > 0 && more > self.free_bytes() { Err(Errno::NOSPC) } else { Ok(()) }
    }

    fn written(&mut self, id: Id) -> Result<()> {
        let now = self.now();
        let inode = self.inode_mut(id)?;
        (inode.mtime, inode.ctime) = (now, now);
        Ok(())
    }

    pub(super) fn sync(&mut self, id: Id) {
        if let Some(data) = self.data.get_mut(&id) {
            data.synced = Some(data.now.clone());
        }
        self.commit();
    }

    pub(super) fn sync_all(&mut self) {
        for data in self.data.values_mut() {
            data.synced = Some(data.now.clone());
        }
        self.commit();
    }

    /// Changes what is attached to an inode, and tells.
    pub(super) fn attach(
        &mut self,
        id: Id,
        link: Link,
        set: impl FnOnce(&mut Inode),
    ) -> Result<()> {
        let now = self.now();
        let inode = self.inode_mut(id)?;
        set(inode);
        inode.ctime = now;
        self.changed();
        self.tell(link, id, Mask::ATTRIB);
        Ok(())
    }
}
