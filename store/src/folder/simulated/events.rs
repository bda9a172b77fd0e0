//! What inotify(7) would say: queues of bounded length, watches on directories.

use std::collections::{BTreeMap, VecDeque};
use std::ops::BitOr;

use super::volume::Id;

/// Bits of `IN_*`, as the kernel numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask(pub u32);

impl Mask {
    pub(super) const MODIFY: Self = Self(0x2);
    pub(super) const ATTRIB: Self = Self(0x4);
    pub(super) const CLOSE_WRITE: Self = Self(0x8);
    pub(super) const MOVED_FROM: Self = Self(0x40);
    pub(super) const MOVED_TO: Self = Self(0x80);
    pub(super) const CREATE: Self = Self(0x100);
    pub(super) const DELETE: Self = Self(0x200);
    pub(super) const DELETE_SELF: Self = Self(0x400);
    pub(super) const MOVE_SELF: Self = Self(0x800);
    pub(super) const OVERFLOW: Self = Self(0x4000);
    pub(super) const IGNORED: Self = Self(0x8000);
    pub(super) const ISDIR: Self = Self(0x4000_0000);

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Mask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One event, as read(2) gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which watch; -1 for an overflow.
    pub wd: i32,
    /// What happened.
    pub mask: Mask,
    /// Joins the two halves of a rename.
    pub cookie: u32,
    /// Empty for what happened to the directory itself.
    pub name: Vec<u8>,
}

/// An inotify instance.
#[derive(Debug)]
struct Queue {
    watches: BTreeMap<i32, (Id, Mask)>,
    next_wd: i32,
    events: VecDeque<Event>,
    events_max: usize,
    watches_max: usize,
}

impl Queue {
    fn add(&mut self, event: Event) {
        // The kernel merges an event with the last one if they are equal.
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() >= self.events_max {
            let overflow = Event { wd: -1, mask: Mask::OVERFLOW, cookie: 0, name: Vec::new() };
            if self.events.back() != Some(&overflow) {
                self.events.push_back(overflow);
            }
            return;
        }
        self.events.push_back(event);
    }

    fn end(&mut self, wd: i32) {
        if self.watches.remove(&wd).is_some() {
            self.add(Event { wd, mask: Mask::IGNORED, cookie: 0, name: Vec::new() });
        }
    }

    fn of(&self, id: Id, mask: Mask) -> Vec<i32> {
        let those =
            self.watches.iter().filter(|(_, (dir, wanted))| *dir == id && wanted.meets(mask));
        those.map(|(wd, _)| *wd).collect()
    }
}

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: BTreeMap<u64, Queue>,
    cookie: u32,
}

/// Bytes of an event without its name (inotify(7)).
const EVENT_BYTES: u64 = 16;

impl Queues {
    pub(super) fn open(&mut self, number: u64, events_max: usize, watches_max: usize) {
        let (watches, events) = (BTreeMap::new(), VecDeque::new());
        let queue = Queue { watches, next_wd: 1, events, events_max, watches_max };
        self.queues.insert(number, queue);
    }

    pub(super) fn close(&mut self, number: u64) {
        self.queues.remove(&number);
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
    }

    /// A second watch on the same inode is the first one, with another mask.
    pub(super) fn watch(&mut self, number: u64, id: Id, mask: Mask) -> Option<i32> {
        let queue = self.queues.get_mut(&number)?;
        let known = queue.watches.iter().find(|(_, (dir, _))| *dir == id).map(|(wd, _)| *wd);
        let wd = match known {
            Some(wd) => wd,
            None if queue.watches.len() >= queue.watches_max => return None,
            None => queue.next_wd,
        };
        queue.next_wd = queue.next_wd.max(wd + 1);
        queue.watches.insert(wd, (id, mask));
        Some(wd)
    }

    pub(super) fn unwatch(&mut self, number: u64, wd: i32) {
        if let Some(queue) = self.queues.get_mut(&number) {
            queue.end(wd);
        }
    }

    pub(super) fn read(&mut self, number: u64, events_max: usize) -> Vec<Event> {
        let Some(queue) = self.queues.get_mut(&number) else { return Vec::new() };
        let count = queue.events.len().min(events_max);
        queue.events.drain(..count).collect()
    }

    pub(super) fn unread_bytes(&self, number: u64) -> u64 {
        let Some(queue) = self.queues.get(&number) else { return 0 };
        let bytes = |event: &Event| {
            let name = u64::try_from(event.name.len()).unwrap_or(0);
            EVENT_BYTES + name.next_multiple_of(EVENT_BYTES)
        };
        queue.events.iter().map(bytes).sum()
    }

    pub(super) fn next_cookie(&mut self) -> u32 {
        self.cookie += 1;
        self.cookie
    }

    /// Something happened to an entry of a directory.
    pub(super) fn push(&mut self, dir: Id, name: &[u8], mask: Mask, cookie: u32, is_dir: bool) {
        let told = if is_dir { mask | Mask::ISDIR } else { mask };
        for queue in self.queues.values_mut() {
            for wd in queue.of(dir, mask) {
                queue.add(Event { wd, mask: told, cookie, name: name.to_vec() });
            }
        }
    }

    /// Something happened to a directory itself.
    pub(super) fn push_self(&mut self, id: Id, mask: Mask) {
        for queue in self.queues.values_mut() {
            for wd in queue.of(id, mask) {
                queue.add(Event { wd, mask, cookie: 0, name: Vec::new() });
            }
        }
    }

    /// The last name and the last descriptor of an inode are gone, and its watches with them.
    pub(super) fn inode_gone(&mut self, id: Id) {
        self.push_self(id, Mask::DELETE_SELF);
        for queue in self.queues.values_mut() {
            for wd in queue.of(id, Mask(u32::MAX)) {
                queue.end(wd);
            }
        }
    }
}
