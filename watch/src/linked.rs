//! Files with several names: a write through a name outside the folder raises no event inside (trap T16,
//! measured). They are looked at by `statx(2)` every few seconds, in slices.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use pickbox_store::folder::{Dir, Kind, Stat};
use pickbox_store::observation::{Hint, Place};

use crate::dirty::What;
use crate::tree::{DirId, Key};
use crate::watcher::Watcher;

/// Pause between two sweeps over them.
pub(crate) const LINKED_EVERY: Duration = Duration::from_secs(3);
/// Files with several names that are looked at so often: those beyond wait for the full scan. At 3 us
/// a look these take 2 % of a processor.
pub(crate) const LINKED_MAX: usize = 16_384;
/// Looks of one slice.
const SLICE: usize = 64;

/// The files that have several names, as they were when they were last looked at. Their
/// directories are held.
#[derive(Debug)]
pub(crate) struct Linked {
    files: BTreeMap<Key, Stat>,
    /// The last that this sweep looked at; none between two sweeps.
    at: Option<Key>,
    next: Instant,
}

impl Linked {
    pub(crate) fn new(now: Instant) -> Self {
        Self { files: BTreeMap::new(), at: None, next: now + LINKED_EVERY }
    }

    /// How many are looked at.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// When the next sweep is due, or goes on.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        (!self.files.is_empty()).then_some(self.next)
    }
}

impl Watcher {
    /// Takes in what a look says of the number of names.
    pub(crate) fn count_links(&mut self, key: &Key, stat: Option<&Stat>) {
        let several = stat.filter(|stat| stat.kind == Kind::File && stat.nlink > 1);
        match several {
            Some(stat) => {
                if let Some(known) = self.linked.files.get_mut(key) {
                    *known = *stat;
                } else if self.linked.files.len() < LINKED_MAX {
                    self.tree.hold(key.dir);
                    self.linked.files.insert(key.clone(), *stat);
                }
            }
            None => self.forget_link(key),
        }
    }

    fn forget_link(&mut self, key: &Key) {
        if !self.linked.files.is_empty() && self.linked.files.remove(key).is_some() {
            self.tree.release(key.dir);
        }
    }

    /// Goes on with the sweep if one is due; whether there was anything to do. A file that is not as
    /// it was last told of is marked; one that is not to be found is forgotten, since its name comes
    /// back by an event or a walk.
    pub(crate) fn step_linked(&mut self, now: Instant) -> bool {
        if self.linked.files.is_empty() || now < self.linked.next {
            return false;
        }
        let from = self.linked.at.take().map_or(Bound::Unbounded, Bound::Excluded);
        let slice: Vec<(Key, Stat)> = self
            .linked
            .files
            .range((from, Bound::Unbounded))
            .take(SLICE)
            .map(|(key, stat)| (key.clone(), *stat))
            .collect();
        if slice.len() == SLICE {
            self.linked.at = slice.last().map(|(key, _)| key.clone());
        } else {
            self.linked.next = now + LINKED_EVERY;
        }
        let mut open: Option<(DirId, Dir)> = None;
        for (key, known) in slice {
            if open.as_ref().is_none_or(|(id, _)| *id != key.dir) {
                open = match self.reach(key.dir) {
                    Ok((Place::Folder, dir)) => Some((key.dir, dir)),
                    _ => None,
                };
            }
            match open.as_ref().map(|(_, dir)| dir.stat(&key.name)) {
                Some(Ok(stat)) if stat.same_to_ctime(&known) => {}
                Some(Ok(stat)) => {
                    self.count_links(&key, Some(&stat));
                    self.note(&key, What::Found(Hint::SCANNED.with(Hint::WROTE)), now);
                }
                _ => self.forget_link(&key),
            }
        }
        true
    }
}
