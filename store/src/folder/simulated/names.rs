//! What changes which name stands for what, as mkdir(2), link(2), rename(2) and their kin do.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::io::Errno;

use super::events::Mask;
use super::volume::{Body, Data, Entry, Id, Link, Result, Volume};
use crate::folder::Kind;

/// How an entry is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Over whatever is there.
    Replace,
    NoReplace,
    Exchange,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'n> {
    pub(super) dir: Id,
    pub(super) name: &'n [u8],
}

impl Volume {
    pub(super) fn is_there(&self, dir: Id) -> Result<()> {
        if self.inode(dir)?.nlink == 0 { Err(Errno::NOENT) } else { Ok(()) }
    }

    /// Makes something new at a free name.
    pub(super) fn make(&mut self, at: At<'_>, body: Body, mode: u16) -> Result<Entry> {
        match self.entry(at.dir, at.name) {
            Ok(_) => return Err(Errno::EXIST),
            Err(Errno::NOENT) => self.is_there(at.dir)?,
            Err(other) => return Err(other),
        }
        if self.free_bytes() == 0 {
            return Err(Errno::NOSPC);
        }
        let is_dir = matches!(body, Body::Directory { .. });
        let mut inode = self.fresh(body, mode, self.free_number());
        inode.nlink = if is_dir { 2 } else { 1 };
        let (id, link) = (Id(self.next()), Link(self.next()));
        if matches!(inode.body, Body::File) {
            self.data.insert(id, Data::default());
        }
        self.inodes.insert(id, Arc::new(inode));
        self.insert(at, Entry { id, link })?;
        self.changed();
        self.tell(link, id, Mask::CREATE);
        Ok(Entry { id, link })
    }

    pub(super) fn make_dir(&mut self, at: At<'_>, mode: u16) -> Result<Entry> {
        self.make(at, Body::Directory { entries: BTreeMap::new(), parent: at.dir }, mode)
    }

    /// Gives an inode another name.
    pub(super) fn link(&mut self, id: Id, at: At<'_>) -> Result<()> {
        if self.inode(id)?.kind() == Kind::Directory {
            return Err(Errno::PERM);
        }
        match self.entry(at.dir, at.name) {
            Ok(_) => return Err(Errno::EXIST),
            Err(Errno::NOENT) => self.is_there(at.dir)?,
            Err(other) => return Err(other),
        }
        let (link, now) = (Link(self.next()), self.now());
        let inode = self.inode_mut(id)?;
        (inode.nlink, inode.ctime) = (inode.nlink + 1, now);
        self.insert(at, Entry { id, link })?;
        self.changed();
        self.tell(link, id, Mask::CREATE);
        Ok(())
    }

    /// Puts an entry into a directory: stamps, counts, and what the name is known by.
    fn insert(&mut self, at: At<'_>, entry: Entry) -> Result<()> {
        self.entries_mut(at.dir)?.insert(at.name.to_vec(), entry);
        self.links.insert(entry.link, (at.dir, at.name.to_vec()));
        if let Body::Directory { parent, .. } = &mut self.inode_mut(entry.id)?.body {
            *parent = at.dir;
            self.inode_mut(at.dir)?.nlink += 1;
        }
        self.touch(at.dir)
    }

    fn take(&mut self, at: At<'_>) -> Result<Entry> {
        let entry = self.entries_mut(at.dir)?.remove(at.name).ok_or(Errno::NOENT)?;
        if self.inode(entry.id)?.kind() == Kind::Directory {
            let dir = self.inode_mut(at.dir)?;
            dir.nlink = dir.nlink.saturating_sub(1);
        }
        self.touch(at.dir)?;
        Ok(entry)
    }

    fn touch(&mut self, dir: Id) -> Result<()> {
        let now = self.now();
        let inode = self.inode_mut(dir)?;
        (inode.mtime, inode.ctime) = (now, now);
        Ok(())
    }

    /// Removes a name of anything but a directory.
    pub(super) fn unlink(&mut self, at: At<'_>) -> Result<()> {
        let entry = self.entry(at.dir, at.name)?;
        if self.inode(entry.id)?.kind() == Kind::Directory {
            return Err(Errno::ISDIR);
        }
        self.take(at)?;
        self.lose(entry)?;
        self.changed();
        self.queues.push(at.dir, at.name, Mask::DELETE, 0, false);
        self.free_unused(entry.id);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, at: At<'_>) -> Result<()> {
        let entry = self.entry(at.dir, at.name)?;
        if !self.entries(entry.id)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.take(at)?;
        self.lose(entry)?;
        self.changed();
        self.queues.push(at.dir, at.name, Mask::DELETE, 0, true);
        self.free_unused(entry.id);
        Ok(())
    }

    /// An inode has one name less; a directory has none left.
    fn lose(&mut self, entry: Entry) -> Result<()> {
        let now = self.now();
        self.links.remove(&entry.link);
        let inode = self.inode_mut(entry.id)?;
        let is_dir = inode.kind() == Kind::Directory;
        inode.nlink = if is_dir { 0 } else { inode.nlink.saturating_sub(1) };
        inode.ctime = now;
        Ok(())
    }

    /// Whether `dir` is `top` or lies below it.
    pub(super) fn is_within(&self, mut dir: Id, top: Id) -> bool {
        loop {
            if dir == top {
                return true;
            }
            match self.inode(dir).map(|inode| &inode.body) {
                Ok(Body::Directory { parent, .. }) if *parent != dir => dir = *parent,
                _ => return false,
            }
        }
    }

    pub(super) fn rename(&mut self, from: At<'_>, to: At<'_>, how: How) -> Result<()> {
        let moved = self.entry(from.dir, from.name)?;
        let there = match self.entry(to.dir, to.name) {
            Ok(there) => Some(there),
            Err(Errno::NOENT) => None,
            Err(other) => return Err(other),
        };
        self.is_there(to.dir)?;
        let is_dir =
            |volume: &Self, id| volume.inode(id).is_ok_and(|it| it.kind() == Kind::Directory);
        match (how, there) {
            (How::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (How::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if is_dir(self, moved.id) && self.is_within(to.dir, moved.id) {
            return Err(Errno::INVAL);
        }
        if let (How::Exchange, Some(there)) = (how, there) {
            if is_dir(self, there.id) && self.is_within(from.dir, there.id) {
                return Err(Errno::INVAL);
            }
            return self.exchange(from, moved, to, there);
        }
        if let Some(there) = there {
            // Two names of one inode: nothing happens (rename(2)).
            if there.id == moved.id {
                return Ok(());
            }
            match (is_dir(self, moved.id), is_dir(self, there.id)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.entries(there.id)?.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
            self.take(to)?;
            self.lose(there)?;
        }
        self.take(from)?;
        self.insert(to, moved)?;
        self.moved(moved.id)?;
        self.changed();
        self.tell_move(from, to, moved.id);
        if let Some(there) = there {
            self.free_unused(there.id);
        }
        Ok(())
    }

    fn exchange(&mut self, from: At<'_>, one: Entry, to: At<'_>, other: Entry) -> Result<()> {
        if one.id == other.id {
            return Ok(());
        }
        self.take(from)?;
        self.take(to)?;
        self.insert(to, one)?;
        self.insert(from, other)?;
        self.moved(one.id)?;
        self.moved(other.id)?;
        self.changed();
        self.tell_move(from, to, one.id);
        self.tell_move(to, from, other.id);
        Ok(())
    }

    fn moved(&mut self, id: Id) -> Result<()> {
        let now = self.now();
        self.inode_mut(id)?.ctime = now;
        Ok(())
    }

    fn tell_move(&mut self, from: At<'_>, to: At<'_>, id: Id) {
        let is_dir = self.inode(id).is_ok_and(|inode| inode.kind() == Kind::Directory);
        let cookie = self.queues.next_cookie();
        self.queues.push(from.dir, from.name, Mask::MOVED_FROM, cookie, is_dir);
        self.queues.push(to.dir, to.name, Mask::MOVED_TO, cookie, is_dir);
        self.queues.push_self(id, Mask::MOVE_SELF);
    }
}
