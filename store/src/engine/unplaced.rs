//! What the log has and the folder does not show yet, and since which entry each of it waits.

use std::collections::{BTreeSet, HashMap};

use pickbox_raft::core::ids::Index as LogIndex;

use super::queue::OrderedSet;
use crate::record::FileId;

/// Files in the order in which they are placed. A file that is being tried, or could not be placed,
/// is out of the order and still waits, until [`Unplaced::done`].
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    queue: OrderedSet<FileId>,
    since: HashMap<FileId, LogIndex>,
    by_since: BTreeSet<(LogIndex, FileId)>,
    /// The entry from which on waits what is put in now.
    now: LogIndex,
    /// Up to where everything stood in the folder at some time.
    pub(super) floor: LogIndex,
}

impl Unplaced {
    /// What comes in from now on waits since this entry, or a later one.
    pub(super) fn begin(&mut self, index: LogIndex) {
        self.now = index;
    }

    /// Adds at the end; one that is in keeps its place.
    pub(super) fn insert(&mut self, id: FileId) {
        self.queue.insert(id);
        self.waits(id);
    }

    /// Notes that one waits, whether it is in the order or not; one that does already waits since then.
    pub(super) fn waits(&mut self, id: FileId) {
        if let std::collections::hash_map::Entry::Vacant(slot) = self.since.entry(id) {
            slot.insert(self.now);
            self.by_since.insert((self.now, id));
        }
    }

    /// Puts one that is in at the end.
    pub(super) fn renew(&mut self, id: FileId) {
        self.queue.renew(id);
    }

    /// Takes one out of the order to try it.
    pub(super) fn take(&mut self, id: FileId) {
        self.queue.remove(id);
    }

    /// It was tried, and stands in the folder: unless it was put in again meanwhile.
    pub(super) fn done(&mut self, id: FileId) {
        if self.queue.contains(id) {
            return;
        }
        if let Some(since) = self.since.remove(&id) {
            self.by_since.remove(&(since, id));
        }
    }

    /// It need not be placed any more.
    pub(super) fn remove(&mut self, id: FileId) {
        self.queue.remove(id);
        self.done(id);
    }

    /// Since which entry the one waits that waits longest.
    pub(super) fn since(&self) -> Option<LogIndex> {
        self.by_since.first().map(|(since, _)| *since)
    }

    /// Since which entry this one waits.
    pub(super) fn since_of(&self, id: FileId) -> Option<LogIndex> {
        self.since.get(&id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The first of the order, at most `limit`.
    pub(super) fn first(&self, limit: usize) -> Vec<FileId> {
        self.queue.first(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ordinal: u32) -> FileId {
        FileId { ordinal, ..FileId::ROOT }
    }

    /// Trap T28: one thing that cannot be placed holds back what is said to stand in the folder, and
    /// nothing else does.
    #[test]
    fn the_longest_wait_counts_until_it_is_over() {
        let index = LogIndex::new;
        let mut unplaced = Unplaced::default();
        for number in 1..=3 {
            unplaced.begin(index(u64::from(number)));
            unplaced.insert(file(number));
        }
        unplaced.take(file(1));
        assert_eq!((unplaced.since(), unplaced.len()), (Some(index(1)), 2));
        unplaced.begin(index(9));
        unplaced.waits(file(1));
        unplaced.take(file(2));
        unplaced.done(file(2));
        assert_eq!(unplaced.since(), Some(index(1)), "it is stuck since then");
        unplaced.insert(file(3));
        assert_eq!(unplaced.since_of(file(3)), Some(index(3)));
        unplaced.take(file(3));
        unplaced.insert(file(3));
        unplaced.done(file(3));
        assert_eq!(unplaced.since_of(file(3)), Some(index(3)), "it changed while it was tried");
        unplaced.done(file(1));
        assert_eq!(unplaced.since(), Some(index(3)));
        unplaced.remove(file(3));
        assert_eq!((unplaced.since(), unplaced.is_empty()), (None, true));
    }
}
