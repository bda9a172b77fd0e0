//! Small ordered memories of the engine.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::placed::LocalId;

/// A set that remembers in which order its members came.
#[derive(Debug)]
pub(super) struct OrderedSet<T> {
    order: BTreeMap<u64, T>,
    keys: HashMap<T, u64>,
    next: u64,
}

impl<T> Default for OrderedSet<T> {
    fn default() -> Self {
        Self { order: BTreeMap::new(), keys: HashMap::new(), next: 0 }
    }
}

impl<T: Copy + Eq + Hash> OrderedSet<T> {
    /// Adds at the end; one that is in keeps its place.
    pub(super) fn insert(&mut self, item: T) {
        if let std::collections::hash_map::Entry::Vacant(slot) = self.keys.entry(item) {
            slot.insert(self.next);
            self.order.insert(self.next, item);
            self.next += 1;
        }
    }

    /// Puts one that is in at the end.
    pub(super) fn renew(&mut self, item: T) {
        if self.contains(item) {
            self.remove(item);
            self.insert(item);
        }
    }

    pub(super) fn remove(&mut self, item: T) {
        if let Some(key) = self.keys.remove(&item) {
            self.order.remove(&key);
        }
    }

    pub(super) fn contains(&self, item: T) -> bool {
        self.keys.contains_key(&item)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All members, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.order.values().copied()
    }

    /// The first members, at most `limit`, in order.
    pub(super) fn first(&self, limit: usize) -> Vec<T> {
        self.order.values().take(limit).copied().collect()
    }
}

/// Bytes of small files that were read and are about to be proposed, bounded: what does not fit
/// is read again.
#[derive(Debug, Default)]
pub(super) struct SmallData {
    bytes: HashMap<LocalId, Vec<u8>>,
    total: usize,
}

/// Most bytes kept; the rest is read again when its turn comes.
const SMALL_DATA_BYTES_MAX: usize = 4 * 1024 * 1024;

impl SmallData {
    pub(super) fn insert(&mut self, id: LocalId, data: Vec<u8>) {
        self.remove(id);
        if self.total + data.len() <= SMALL_DATA_BYTES_MAX {
            self.total += data.len();
            self.bytes.insert(id, data);
        }
    }

    pub(super) fn remove(&mut self, id: LocalId) {
        if let Some(data) = self.bytes.remove(&id) {
            self.total -= data.len();
        }
    }

    pub(super) fn get(&self, id: LocalId) -> Option<&Vec<u8>> {
        self.bytes.get(&id)
    }
}
