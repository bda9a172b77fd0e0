//! The bytes of displaced versions, by hash: `HH/SHA256`, where `HH` are the first two digits.
//!
//! The *list* of versions is agreed state; this is each node's cache of their bytes, bounded and
//! dropped before anything else is refused for space: the longest displaced goes first, by the
//! ctime that the rename gave it. A displaced inode becomes an object by one rename, so that its
//! bytes are never copied; its mtime stays the user's.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::staging::hash_file;
use crate::content_id::ContentId;
use crate::folder::{Dir, File, FolderError, Kind, Properties, Space, Stat};
use crate::name::Name;
use crate::time::Time;

/// History may take this part of the file system: a tenth.
const SHARE_DIVISOR: u64 = 10;
/// Below this part of free space (a twentieth), history makes room for it.
const FREE_DIVISOR: u64 = 20;

/// The directory of history objects. All calls may come from several threads.
#[derive(Debug)]
pub struct HistoryStore {
    dir: Dir,
    bytes: AtomicU64,
}

/// What became of a file that was handed to history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is an object now.
    New,
    /// The same bytes were there already: this file took their place.
    Known,
}

/// What was dropped to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Objects.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What reading an object found.
#[derive(Debug)]
pub enum Object {
    /// The open file; its bytes hash to its name.
    Intact(File),
    /// The bytes hashed to something else: it was removed.
    Rotten,
    /// It is not here.
    Absent,
}

impl HistoryStore {
    /// Opens the directory and counts what is in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(dir: Dir) -> Result<Self, FolderError> {
        let store = Self { dir, bytes: AtomicU64::new(0) };
        let mut bytes = 0;
        store.each_group(|_, objects| {
            bytes += objects.iter().map(|object| object.size).sum::<u64>();
            Ok(())
        })?;
        store.bytes.store(bytes, Ordering::Relaxed);
        Ok(store)
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Makes the entry `name` of `from` the object of `content`. The caller knows that it is.
    ///
    /// # Errors
    /// When the entry is gone, or the disk refuses.
    pub fn keep(&self, from: &Dir, name: &Name, content: ContentId) -> Result<Kept, FolderError> {
        let stat = from.stat(name)?;
        let size = stat.size;
        self.make_ours(from, name, &stat);
        let (dir, object) = self.place(content)?;
        match from.rename_no_replace(name, &dir, &object) {
            Ok(()) => {
                self.bytes.fetch_add(size, Ordering::Relaxed);
                Ok(Kept::New)
            }
            Err(FolderError::Exists(_)) => {
                // It counts as displaced now, not when its bytes first were: they stay as long.
                from.exchange(name, &dir, &object)?;
                let old = from.stat(name)?.size;
                self.bytes.fetch_add(size, Ordering::Relaxed);
                self.bytes.fetch_sub(old.min(self.bytes()), Ordering::Relaxed);
                from.unlink(name).map(|()| Kept::Known)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a user's file away from him and all others, on its way into history: it counts in
    /// nobody's quota and is open to nobody, wherever the directory might be copied to. A file that
    /// has another name is left as it is: that name is not ours. What the daemon may not change
    /// stays; the directory is closed all the same.
    fn make_ours(&self, from: &Dir, name: &Name, stat: &Stat) {
        if stat.kind != Kind::File || stat.nlink > 1 {
            return;
        }
        let owner = self.dir.stat_self().ok().map(|dir| dir.ids());
        let wanted = Properties { mtime: stat.mtime, owner, ..Properties::OURS };
        if (stat.mode, Some(stat.ids())) != (wanted.mode, owner)
            && let Err(error) = from.attach(name, stat, wanted)
        {
            log::debug!("event=history_not_closed error=\"{error}\"");
        }
    }

    /// Whether there is an object of this content, without reading it.
    #[must_use]
    pub fn has(&self, content: ContentId) -> bool {
        let Some((group, object)) = names(content) else { return false };
        self.dir.open_dir(&group).is_ok_and(|dir| dir.stat(&object).is_ok())
    }

    /// Opens an object without reading it: the reader verifies.
    #[must_use]
    pub fn open_object(&self, content: ContentId) -> Option<File> {
        let (group, object) = names(content)?;
        self.dir.open_dir(&group).ok()?.open_read(&object).ok()
    }

    /// Opens an object after reading all of it; one that does not hash to its name is removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open_verified(&self, content: ContentId) -> Result<Object, FolderError> {
        let Some(file) = self.open_object(content) else { return Ok(Object::Absent) };
        let failed = |error: std::io::Error| FolderError::Other {
            path: self.dir.path().clone(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        };
        let (actual, _) = hash_file(&file).map_err(failed)?;
        if actual == content {
            return Ok(Object::Intact(file));
        }
        log::warn!("a history object rotted and was removed: content={content}");
        self.drop_object(content)?;
        Ok(Object::Rotten)
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn drop_object(&self, content: ContentId) -> Result<Evicted, FolderError> {
        let Some((group, object)) = names(content) else { return Ok(Evicted::default()) };
        let dir = match self.dir.open_dir(&group) {
            Err(FolderError::Absent(_)) => return Ok(Evicted::default()),
            other => other?,
        };
        match dir.stat(&object) {
            Err(FolderError::Absent(_)) => Ok(Evicted::default()),
            Err(error) => Err(error),
            Ok(stat) => {
                dir.unlink(&object)?;
                self.bytes.fetch_sub(stat.size.min(self.bytes()), Ordering::Relaxed);
                Ok(Evicted { count: 1, bytes: stat.size })
            }
        }
    }

    /// How many bytes history may hold now: a tenth of the file system, less what is missing to a
    /// twentieth of free space.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn limit_bytes(&self) -> Result<u64, FolderError> {
        let Space { total, free } = Space::of(&self.dir)?;
        let missing = (total / FREE_DIVISOR).saturating_sub(free);
        let share = total / SHARE_DIVISOR;
        match missing {
            0 => Ok(share),
            _ => Ok(share.min(self.bytes().saturating_sub(missing))),
        }
    }

    /// Drops the objects that came first until no more than `limit_bytes` are left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn evict(&self, limit_bytes: u64) -> Result<Evicted, FolderError> {
        let mut evicted = Evicted::default();
        if self.bytes() <= limit_bytes {
            return Ok(evicted);
        }
        let mut objects = Vec::new();
        self.each_group(|_, mut group| {
            objects.append(&mut group);
            Ok(())
        })?;
        // The rename that made it an object moved its ctime; nothing did since.
        objects.sort_by_key(|object| (object.since, object.content));
        for object in objects {
            if self.bytes() <= limit_bytes {
                break;
            }
            let dropped = self.drop_object(object.content)?;
            evicted.count += dropped.count;
            evicted.bytes += dropped.bytes;
        }
        Ok(evicted)
    }

    /// Drops the objects that became history before `before`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn evict_older(&self, before: Time) -> Result<Evicted, FolderError> {
        let mut evicted = Evicted::default();
        self.each_group(|store, objects| {
            for object in objects.into_iter().filter(|object| object.since < before) {
                let dropped = store.drop_object(object.content)?;
                evicted.count += dropped.count;
                evicted.bytes += dropped.bytes;
            }
            Ok(())
        })?;
        Ok(evicted)
    }

    /// Visits all objects, those of one group at a time, so that a million of them are not held
    /// at once. What is not named like one is left alone.
    fn each_group(
        &self,
        mut visit: impl FnMut(&Self, Vec<Listed>) -> Result<(), FolderError>,
    ) -> Result<(), FolderError> {
        for group in self.dir.list()? {
            let dir = match self.dir.open_dir(&group?.name) {
                Err(FolderError::NotDirectory(_) | FolderError::Absent(_)) => continue,
                other => other?,
            };
            let mut objects = Vec::new();
            for object in dir.list()? {
                let name = object?.name;
                let text = std::str::from_utf8(name.as_bytes()).ok();
                let Some(content) = text.and_then(ContentId::parse_hex) else { continue };
                match dir.stat(&name) {
                    Ok(Stat { size, ctime, .. }) => {
                        objects.push(Listed { content, size, since: ctime });
                    }
                    // Another thread found it rotten, or a newer file takes its place.
                    Err(FolderError::Absent(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            visit(self, objects)?;
        }
        Ok(())
    }

    /// Where an object goes; its group is made when it is the first there.
    fn place(&self, content: ContentId) -> Result<(Dir, Name), FolderError> {
        let absent = || FolderError::Absent(self.dir.path().clone());
        let (group, object) = names(content).ok_or_else(absent)?;
        let dir = match self.dir.open_dir(&group) {
            Err(FolderError::Absent(_)) => match self.dir.mkdir(&group, 0o700) {
                Err(FolderError::Exists(_)) => self.dir.open_dir(&group)?,
                other => other?,
            },
            other => other?,
        };
        Ok((dir, object))
    }
}

/// One object, as listed.
#[derive(Debug)]
struct Listed {
    content: ContentId,
    size: u64,
    /// When it became history.
    since: Time,
}

/// The group and the name of an object.
fn names(content: ContentId) -> Option<(Name, Name)> {
    let hex = content.to_string();
    Some((Name::new(hex.get(..2)?.as_bytes()).ok()?, Name::new(hex).ok()?))
}
