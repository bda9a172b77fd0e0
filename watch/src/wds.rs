//! Which node a watch descriptor of the kernel means.
//!
//! The kernel hands descriptors out in a circle and may, after 2^31 of them, reuse one while
//! events of its former life are still unread (inotify(7), BUGS): everything up to its
//! `IN_IGNORED` belongs to the former (trap T27).

use std::collections::HashMap;

use crate::tree::DirId;

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Events belong to this node.
    Live(DirId),
    /// We removed the watch, or the kernel did; its `IN_IGNORED` is on the way.
    Removed,
    /// Reused: events belong to nobody until `IN_IGNORED`, and from then on to this node.
    Reused(DirId),
}

/// All descriptors in use.
#[derive(Debug, Default)]
pub(crate) struct Wds {
    slots: HashMap<i32, Slot>,
}

impl Wds {
    /// Whose events these are.
    pub(crate) fn owner(&self, wd: i32) -> Option<DirId> {
        match self.slots.get(&wd) {
            Some(Slot::Live(id)) => Some(*id),
            _ => None,
        }
    }

    /// The kernel returned `wd` for a watch on the directory of `id`, which no slot has.
    pub(crate) fn add(&mut self, wd: i32, id: DirId) {
        let slot = match self.slots.get(&wd) {
            None => Slot::Live(id),
            Some(Slot::Live(old)) if *old == id => Slot::Live(id),
            Some(Slot::Live(_) | Slot::Removed | Slot::Reused(_)) => Slot::Reused(id),
        };
        self.slots.insert(wd, slot);
    }

    /// We removed the watch.
    pub(crate) fn remove(&mut self, wd: i32) {
        self.slots.insert(wd, Slot::Removed);
    }

    /// `IN_IGNORED` was read. Returns the node that just lost its watch.
    pub(crate) fn ignored(&mut self, wd: i32) -> Option<DirId> {
        match self.slots.remove(&wd) {
            Some(Slot::Live(id)) => Some(id),
            Some(Slot::Reused(id)) => {
                self.slots.insert(wd, Slot::Live(id));
                None
            }
            _ => None,
        }
    }

    /// Events were lost, `IN_IGNORED`s perhaps among them: nobody waits for one any more.
    pub(crate) fn overflowed(&mut self) {
        self.slots.retain(|_, slot| *slot != Slot::Removed);
        for slot in self.slots.values_mut() {
            if let Slot::Reused(id) = *slot {
                *slot = Slot::Live(id);
            }
        }
    }

    /// Watches that the kernel holds for us.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use pickbox_store::observation::Place;

    use super::*;
    use crate::tree::Tree;

    /// trap T27: events of a descriptor's former life are not taken for the new directory's.
    #[test]
    fn a_reused_descriptor_waits_for_the_end_of_its_former_life() {
        let mut tree = Tree::default();
        let (old, new) = (tree.add_root(Place::Folder), tree.add_root(Place::Folder));
        let mut wds = Wds::default();
        wds.add(7, old);
        assert_eq!(wds.owner(7), Some(old));
        wds.remove(7);
        assert_eq!(wds.owner(7), None, "late events of a removed watch are dropped");
        wds.add(7, new);
        assert_eq!(wds.owner(7), None, "these are still the former directory's");
        assert_eq!(wds.ignored(7), None);
        assert_eq!(wds.owner(7), Some(new));
        assert_eq!(wds.ignored(7), Some(new));
        assert_eq!(wds.count(), 0);
    }

    /// trap T1: a lost `IN_IGNORED` does not silence a directory for ever.
    #[test]
    fn after_an_overflow_nobody_waits() {
        let mut tree = Tree::default();
        let id = tree.add_root(Place::Folder);
        let mut wds = Wds::default();
        wds.remove(7);
        wds.add(7, id);
        wds.overflowed();
        assert_eq!(wds.owner(7), Some(id));
    }
}
