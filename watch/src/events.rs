//! What an inotify event means.

use std::time::Instant;

use inotify::EventMask;
use pickbox_store::observation::{Hint, Place};

use crate::dirty::What;
use crate::lane::Why;
use crate::moves::Half;
use crate::source::Event;
use crate::tree::{DirId, Key};
use crate::watcher::{WatchError, Watcher};

/// Reads before something else has its turn; more than the default queue of 16384 events.
const READS_MAX: u32 = 64;

/// Whether the kernel's queue is empty now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// It was, a moment ago.
    Empty,
    /// There may be more.
    More,
}

impl Watcher {
    /// Reads the kernel's queue until it is empty, and only notes. All that was written before
    /// this call is noted after it: the kernel queues an event before the system call returns.
    pub(crate) fn drain(&mut self, now: Instant) -> Result<Drained, WatchError> {
        for _ in 0..READS_MAX {
            match self.source.read() {
                Ok(events) => events.into_iter().for_each(|event| self.apply(event, now)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Drained::Empty);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(WatchError::Io(error)),
            }
        }
        Ok(Drained::More)
    }

    fn apply(&mut self, event: Event, now: Instant) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.wds.overflowed();
            return self.lost_events();
        }
        if event.mask.contains(EventMask::IGNORED) {
            return self.unwatched_by_kernel(event.wd);
        }
        let Some(dir) = self.wds.owner(event.wd) else { return };
        let Some(name) = event.name else { return self.apply_to_self(dir, event.mask) };
        let key = Key { dir, name };
        if self.is_beside(dir) {
            return self.apply_beside(&key, event.mask, now);
        }
        if event.mask.contains(EventMask::ISDIR) {
            self.apply_to_directory(key, event.mask, event.cookie, now);
        } else {
            self.apply_to_file(key, event.mask, event.cookie, now);
        }
    }

    fn is_beside(&self, dir: DirId) -> bool {
        self.roots.iter().any(|root| root.dir == dir && root.place != Place::Folder)
    }

    /// Only the folder's root watches itself, and unmounting tells every watch.
    fn apply_to_self(&mut self, dir: DirId, mask: EventMask) {
        if self.root() != Some(dir) {
            return;
        }
        // It may have been moved back.
        let moved = mask.contains(EventMask::MOVE_SELF) && !self.is_root_here();
        if moved || mask.intersects(EventMask::DELETE_SELF | EventMask::UNMOUNT) {
            self.lose_root();
        }
    }

    fn unwatched_by_kernel(&mut self, wd: i32) {
        let Some(dir) = self.wds.ignored(wd) else { return };
        if self.root() == Some(dir) {
            return self.lose_root();
        }
        if let Some(node) = self.tree.get_mut(dir) {
            node.wd = None;
        }
        // Known by a name and yet without watch: deleted, or a delete was misread. Look.
        if let Some(key) = self.tree.key(dir) {
            self.push_fresh(key, Why::Appeared);
        }
    }

    /// In quarantine only late writes matter; names come and go by our own hand.
    fn apply_beside(&mut self, key: &Key, mask: EventMask, now: Instant) {
        if mask.contains(EventMask::CLOSE_WRITE) {
            self.note(key, What::Closed, now);
        } else if mask.contains(EventMask::MODIFY) {
            self.note(key, What::Modified, now);
        }
    }

    fn apply_to_file(&mut self, key: Key, mask: EventMask, cookie: u32, now: Instant) {
        if mask.contains(EventMask::MOVED_FROM) {
            let hint = self.dirty.hint(&key);
            self.note(&key, What::Went, now);
            self.keep_half(cookie, key, hint, None, now);
        } else if mask.contains(EventMask::MOVED_TO) {
            let half = self.moves.pair(cookie);
            self.note(&key, What::MovedHere(half.as_ref().map(|half| half.hint)), now);
            if let Some(half) = half {
                self.dirty.pair(&half.from, &key, now);
                self.release_half(&half);
            }
        } else if let Some(what) = plain(mask) {
            self.note(&key, what, now);
        }
    }

    fn apply_to_directory(&mut self, key: Key, mask: EventMask, cookie: u32, now: Instant) {
        let known = self.tree.child(key.dir, &key.name);
        if mask.contains(EventMask::MOVED_FROM) {
            let hint = self.dirty.hint(&key);
            self.note(&key, What::Went, now);
            self.keep_half(cookie, key, hint, known, now);
        } else if mask.contains(EventMask::MOVED_TO) {
            self.directory_moved_here(key, cookie, now);
        } else if mask.contains(EventMask::DELETE) {
            self.note(&key, What::Went, now);
            if let Some(id) = known {
                self.forget(id);
            }
        } else if let Some(what) = plain(mask) {
            self.note(&key, what, now);
            if what == What::Created {
                self.dirty.hurry(&key, now);
            }
            let unwatched = known.and_then(|id| self.tree.get(id)?.wd).is_none();
            // Also a directory that could not be entered before its rights were changed.
            if unwatched || what == What::Created {
                self.push_fresh(key, Why::Appeared);
            }
        }
    }

    fn directory_moved_here(&mut self, key: Key, cookie: u32, now: Instant) {
        let half = self.moves.pair(cookie);
        self.note(&key, What::MovedHere(half.as_ref().map(|half| half.hint)), now);
        self.dirty.hurry(&key, now);
        let mut why = Why::Appeared;
        if let Some(half) = half {
            self.dirty.pair(&half.from, &key, now);
            // Only if it still is where it was moved from: else something newer is known.
            let id =
                half.dir.filter(|&id| !self.tree.is_linked(id) || self.tree.is_at(id, &half.from));
            if let Some(id) = id {
                let kept_its_name = self.tree.is_linked(id);
                let old = self.tree.path(id);
                self.displace(&key, now);
                if self.tree.relink(id, key.clone()) && kept_its_name {
                    why = Why::MovedWithin;
                }
                if let Some((_, old)) = old {
                    self.keep_old_path(old, id, now);
                }
            }
            self.release_half(&half);
        }
        self.push_fresh(key, why);
    }

    fn keep_half(&mut self, cookie: u32, from: Key, hint: Hint, dir: Option<DirId>, now: Instant) {
        self.hold_half(&from, dir);
        if let Some(oldest) = self.moves.keep(Some(cookie), from, hint, dir, now) {
            self.give_up_half(&oldest);
        }
    }

    /// Frees a name for another directory; the former may turn up elsewhere in a moment.
    pub(crate) fn displace(&mut self, key: &Key, now: Instant) {
        let Some(id) = self.tree.child(key.dir, &key.name) else { return };
        self.hold_half(key, Some(id));
        self.tree.unlink(id);
        let hint = Hint::default();
        if let Some(oldest) = self.moves.keep(None, key.clone(), hint, Some(id), now) {
            self.give_up_half(&oldest);
        }
    }

    fn hold_half(&mut self, from: &Key, dir: Option<DirId>) {
        self.tree.hold(from.dir);
        if let Some(id) = dir {
            self.tree.hold(id);
        }
    }

    fn release_half(&mut self, half: &Half) {
        if let Some(id) = half.dir {
            self.tree.release(id);
        }
        self.tree.release(half.from.dir);
    }

    /// Directories that were moved out of the folder must not go on sending events. Those that
    /// may be found by entering what appeared are waited for.
    pub(crate) fn expire_moves(&mut self, now: Instant) {
        if self.fresh.has_work() {
            return;
        }
        while let Some(half) = self.moves.expired(now) {
            self.give_up_half(&half);
        }
        self.expire_old_paths(now);
    }

    fn give_up_half(&mut self, half: &Half) {
        if let Some(id) = half.dir
            && (!self.tree.is_linked(id)
                || half.cookie.is_some() && self.tree.is_at(id, &half.from))
        {
            self.forget(id);
        }
        self.release_half(half);
    }

    /// Forgets a directory and all below it. Their watches are removed also when they are
    /// believed to be deleted: one that lives on outside must not go on sending events.
    pub(crate) fn forget(&mut self, top: DirId) {
        for id in self.tree.subtree(top) {
            if let Some(wd) = self.tree.get_mut(id).and_then(|node| node.wd.take()) {
                self.source.remove(wd);
                self.wds.remove(wd);
            }
            self.unwatched.remove(&id);
            self.notices.forget(id);
            self.tree.unlink(id);
        }
    }
}

/// Events that are no renames.
fn plain(mask: EventMask) -> Option<What> {
    let meanings = [
        (EventMask::CREATE, What::Created),
        (EventMask::CLOSE_WRITE, What::Closed),
        (EventMask::MODIFY, What::Modified),
        (EventMask::DELETE, What::Went),
        (EventMask::ATTRIB, What::Attributes),
    ];
    meanings.into_iter().find(|(bit, _)| mask.contains(*bit)).map(|(_, what)| what)
}
